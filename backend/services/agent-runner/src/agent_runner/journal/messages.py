"""The steps of messages: what a person says while the agent works, which it is given before its next turn.

Which message came before which turn is in the log before the turn's answer is, so a later leg gives the agent
the same ones at the same place. One that comes while it gives its final answer leads to one more turn.
"""

from pydantic import JsonValue
from pydantic_ai.messages import UserPromptPart

from agent_runner.journal.conversation import read_message_step
from agent_runner.journal.kinds import MESSAGE, MODEL, SUBMITTED, StepKey
from agent_runner.journal.open_waits import ServerClock
from agent_runner.journal.recorded import MESSAGE_SAID, MESSAGE_SEQUENCE
from agent_runner.journal.steps import StepJournal
from stigmer_contract.events import StepFinished


class MessageSteps:
    """The messages of one leg, to the execution's own agent."""

    def __init__(self, journal: StepJournal, clock: ServerClock) -> None:
        self._journal = journal
        self._clock = clock
        self._placed: dict[int, int] = {}
        """How many of each turn's are in the conversation by now."""
        self._is_first = True

    async def due(self, turn: int) -> list[UserPromptPart]:
        """The messages that come before a turn, but for those that it was given here already."""
        parts: list[UserPromptPart] = []
        recorded = self._journal.parts.recorded
        while isinstance(known := recorded.results.get(self._place(turn)), StepFinished):
            parts.append(await self._part_of(turn, known))
        if self._is_settled(turn):
            return parts
        await self._look()
        while (sequence := recorded.next_message()) is not None:
            parts.append(await self._give(turn, sequence))
        return parts

    def _place(self, turn: int) -> StepKey:
        return StepKey("", MESSAGE, str(turn), self._placed.get(turn, 0) + 1)

    def _is_settled(self, turn: int) -> bool:
        """Whether what the turn is asked with can be no other any more: it was asked, or is stored."""
        resumption = self._journal.scopes.resumption
        if resumption is not None and turn <= resumption.turn + 1:
            return True
        results = self._journal.parts.recorded.results
        return any(StepKey("", kind, str(turn), 1) in results for kind in (MODEL, SUBMITTED))

    async def _look(self) -> None:
        """Find messages that have come since the leg began."""
        if self._is_first:
            self._is_first = False  # what there was a moment ago, the leg was granted
            return
        parts = self._journal.parts
        await parts.log.secure()
        for event in await parts.log.news():
            parts.recorded.take_message(event)

    async def _give(self, turn: int, sequence: int) -> UserPromptPart:
        parts = self._journal.parts
        place = self._place(turn)
        value: JsonValue = {
            MESSAGE_SEQUENCE: sequence,
            MESSAGE_SAID: parts.recorded.messages[sequence].message.model_dump(mode="json"),
            "at": self._clock.now().isoformat(),
        }
        event = StepFinished(
            kind=place.kind, key=place.key, nth=place.nth, result=await parts.bodies.store_value(value)
        )
        # Of no use without the answer, before which it is written.
        self._journal.write(event, more_follows=True)
        return await self._part_of(turn, event)

    async def _part_of(self, turn: int, step: StepFinished) -> UserPromptPart:
        self._placed[turn] = self._placed.get(turn, 0) + 1
        assert step.result is not None
        return await read_message_step(step.result, self._journal.parts.bodies.load_value)
