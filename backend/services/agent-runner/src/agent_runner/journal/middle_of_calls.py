"""What happens in the middle of tool calls, as steps of their own: people and the agent's model are asked,
and a call that its server has put down is taken up again.

What was asked before is asked again by no leg: an answer goes to who asks the same, and to nobody else.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue, TypeAdapter
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings as RequestSettings

from agent_runner.errors import RunnerError
from agent_runner.journal.bodies import usage_of_answer
from agent_runner.journal.inputs import InputSteps
from agent_runner.journal.kinds import PUT_DOWN, SAMPLED, StepKey, call_key
from agent_runner.journal.scopes import RunningCall, running_call
from agent_runner.journal.steps import StepJournal
from agent_runner.mcp_servers.faults import AnswerRefused
from agent_runner.mcp_servers.questions import LOG_IN_SCHEMA, ModelAsked, PersonAsked, SampledPart, StillOpen
from agent_runner.models import classify_fault
from agent_runner.toolsets import Told
from stigmer_contract.events import StepFinished, Usage
from stigmer_contract.inputs import InputKind, Login

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often the log is looked at while a leg stays for an answer."""
_RESPONSE: Final = TypeAdapter(ModelResponse)


class MiddleOfCalls:
    """Those of one leg; a `MiddleOfCall` for the tools."""

    def __init__(
        self, journal: StepJournal, inputs: InputSteps, model: Model, settings: RequestSettings
    ) -> None:
        """`model` is the agent's own."""
        self._journal = journal
        self._inputs = inputs
        self._model = model
        self._settings = settings

    async def ask(
        self, toolset: str, tool: str, asked: Sequence[PersonAsked], stays_seconds: float | None
    ) -> list[Told]:
        """Ask people in the call that is at work, and return when all of it is resolved.

        Raises:
            StillOpen: the leg has stayed for so long.
        """
        requested = [
            await self._inputs.put_question(toolset, tool, each.question, each.schema) for each in asked
        ]
        await self._journal.parts.log.flush()
        if stays_seconds is not None:
            await self._stay([event.input_id for _, event in requested], stays_seconds)
        return [await self._inputs.told(place, event) for place, event in requested]

    async def log_in(self, toolset: str, tool: str, login: Login) -> Told:
        """Ask that somebody signs in for the call that is at work, and return when that is resolved."""
        place, event = await self._inputs.put_question(
            toolset, tool, login, LOG_IN_SCHEMA, kind=InputKind.LOGIN
        )
        await self._journal.parts.log.flush()
        return await self._inputs.told(place, event)

    async def _stay(self, input_ids: Sequence[str], seconds: float) -> None:
        parts = self._journal.parts
        until = time.monotonic() + seconds
        while any(each not in parts.recorded.resolutions for each in input_ids):
            if parts.gate.is_closed or time.monotonic() >= until:
                raise StillOpen
            await asyncio.sleep(min(LOOK_SECONDS, max(0.0, until - time.monotonic())))
            for resolved in await parts.log.resolutions():
                parts.recorded.add(resolved)

    async def until_answered(self) -> None:
        """Return when nothing is open that was asked in the call that is at work."""
        call = _at_work()
        await self._inputs.until_resolved(call.scope.path, call_key(call.scope.turn, call.call_id))

    async def put_down(self, asked: JsonValue) -> None:
        """Write down what the call's server asks."""
        await self._write(await self._journal.clean(asked))

    async def take_up(self) -> None:
        """Write down that the call goes on."""
        await self._write(None)

    async def what_was_put_down(self) -> JsonValue | None:
        """What the call's server asked and nobody answered it yet."""
        call, parts = _at_work(), self._journal.parts
        of_call = call_key(call.scope.turn, call.call_id)
        step = parts.recorded.put_down(call.scope.path, of_call)
        if step is None or step.result is None:
            return None
        return await parts.bodies.load_value(step.result)

    async def _write(self, result: JsonValue) -> None:
        call, parts = _at_work(), self._journal.parts
        of_call = call_key(call.scope.turn, call.call_id)
        place = call.scope.next_key(PUT_DOWN, of_call)
        while place in parts.recorded.results:
            place = call.scope.next_key(PUT_DOWN, of_call)
        self._journal.write(await self._finished(place, result, None, 0.0))
        await parts.log.flush()

    async def sample(self, asked: ModelAsked) -> dict[str, JsonValue]:
        """What the model answers; the same question of the same call is paid for once.

        Raises:
            AnswerRefused: it cannot be had.
        """
        call, parts = _at_work(), self._journal.parts
        digest = hashlib.sha256(repr(asked).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        key = f"{call_key(call.scope.turn, call.call_id)}/{digest}"
        place = call.scope.next_key(SAMPLED, key)
        known = parts.recorded.results.get(place)
        if isinstance(known, StepFinished) and known.result is not None:
            return _object(await parts.bodies.load_value(known.result))
        parts.budget.check(call.scope.turn)
        async with parts.gate.step(inner=True):
            await parts.log.secure()
            started = time.monotonic()
            response = await self._request(asked)
            usage = usage_of_answer(_RESPONSE.dump_python(response, mode="json"))
            # Requests are what turns are counted by, and this is none of the agent's.
            usage = usage.model_copy(update={"requests": 0})
            text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
            stop = "maxTokens" if response.finish_reason == "length" else "endTurn"
            said: JsonValue = {"text": text, "model": response.model_name or "", "stop": stop}
            result = await self._journal.clean(said)
            self._journal.write(await self._finished(place, result, usage, time.monotonic() - started))
            await parts.log.flush()
        parts.budget.add(usage)
        return _object(result)

    async def _request(self, asked: ModelAsked) -> ModelResponse:
        settings = RequestSettings(**self._settings)
        settings.pop("thinking", None)
        settings["max_tokens"] = asked.max_tokens
        if asked.temperature is not None:
            settings["temperature"] = asked.temperature
        if asked.stop:
            settings["stop_sequences"] = asked.stop
        try:
            return await self._model.request(_messages(asked), settings, ModelRequestParameters())
        except RunnerError:
            raise
        except Exception as error:
            fault = classify_fault(error)
            logger.warning("a server's question to the model failed: %s", fault.code)
            raise AnswerRefused(f"the model could not be asked: {fault.message[:300]}") from error

    async def _finished(
        self, place: StepKey, result: JsonValue, usage: Usage | None, seconds: float
    ) -> StepFinished:
        return StepFinished(
            agent_path=place.agent_path,
            kind=place.kind,
            key=place.key,
            nth=place.nth,
            result=await self._journal.parts.bodies.store_value(result),
            usage=usage,
            duration_seconds=round(seconds, 6),
        )


def _at_work() -> RunningCall:
    call = running_call.get()
    assert call is not None, "these are steps of tool calls"
    return call


def _object(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}


def _messages(asked: ModelAsked) -> list[ModelMessage]:
    messages = list[ModelMessage]()
    if asked.system:
        messages.append(ModelRequest(parts=[SystemPromptPart(asked.system)]))
    for is_models, parts in asked.messages:
        if is_models:
            messages.append(ModelResponse(parts=[TextPart(part.text) for part in parts if part.text]))
        else:
            messages.append(ModelRequest(parts=[UserPromptPart([_content(part) for part in parts])]))
    return messages


def _content(part: SampledPart) -> UserContent:
    return part.text if part.media_type is None else BinaryContent(part.content, media_type=part.media_type)
