"""What a leg has in hand that a cancellation cuts: tool calls, and the answer that the agent is being given.

Calls are asked to end first, and get a moment for that. Of the answer, what the person saw of it is written
down.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import ModelRequestParameters

from agent_runner.journal.bodies import Bodies
from agent_runner.journal.context_size import ContextSize
from agent_runner.journal.surrogates import mend
from agent_runner.masking import Masker
from agent_runner.models import estimated_usage, price_of
from stigmer_contract.events import ModelInterrupted, Usage
from stigmer_contract.model_names import split_model
from stigmer_isolation.running_command import EndWish, command_end_wish


class CallsInHand:
    """The tool calls that a leg carries out at this moment, but for those that run agents."""

    def __init__(self) -> None:
        self._wishes: set[EndWish] = set()
        self._none_left = asyncio.Event()
        self._none_left.set()

    @contextmanager
    def holding(self, *, runs_agents: bool) -> Generator[EndWish]:
        """Hold a call in hand until its result is written down; its commands may be asked to end.

        Of one that `runs_agents` the calls of those are in hand, and it is not.
        """
        wish = EndWish()
        if runs_agents:
            yield wish
            return
        self._wishes.add(wish)
        self._none_left.clear()
        token = command_end_wish.set(wish)
        try:
            yield wish
        finally:
            command_end_wish.reset(token)
            self._wishes.remove(wish)
            if not self._wishes:
                self._none_left.set()

    def ask_to_end(self) -> None:
        """Ask the commands of all calls to end."""
        for wish in self._wishes:
            wish.ask()

    async def none_left(self) -> None:
        """Wait until there is none in hand."""
        await self._none_left.wait()


@dataclass
class AnswerInHand:
    """An answer that the execution's own agent is being given."""

    turn: int
    nth: int
    model: str
    """`provider:name`."""
    messages: list[ModelMessage]
    parameters: ModelRequestParameters
    size: ContextSize
    said: list[str] = field(default_factory=list[str])
    characters: int = 0
    """Of all that came, thinking included."""

    def take(self, text: str, *, is_said: bool) -> None:
        """A piece of it has come."""
        self.characters += len(text)
        if is_said:
            self.said.append(text)

    def begin_again(self) -> None:
        """It broke off; what came of it does not hold any more."""
        self.said, self.characters = [], 0

    async def interrupted(self, bodies: Bodies, masker: Masker) -> ModelInterrupted | None:
        """What there is to write down of an answer that is cut off here; None: it had not begun."""
        if not self.characters:
            return None
        usage = estimated_usage(0, self.characters)
        usage.input_tokens = max(1, self.size.of(self.messages, self.parameters))
        provider, name = split_model(self.model)
        priced = ModelResponse([], usage=usage, model_name=name, provider_name=provider)
        text = masker.mask(mend("".join(self.said)))
        return ModelInterrupted(
            turn=self.turn,
            nth=self.nth,
            model=self.model,
            text=await bodies.store_value(text),
            usage=Usage(
                requests=1,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cost_usd=price_of(priced),
                estimated=True,
            ),
        )
