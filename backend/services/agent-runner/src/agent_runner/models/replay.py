"""The model `replay:`, which answers from a cassette. Keeps no state between requests.

The turn follows from the conversation alone, so a leg that takes over, a request that is repeated and two
executions on one cassette all get the right answer. What the conversation must look like is
`replay_check`'s matter.
"""

import asyncio
import re

from pydantic_ai.messages import (
    FinishReason,
    ModelMessage,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from agent_runner.models.asking import Answers, NoWatcher, Watcher
from agent_runner.models.replay_check import find_turn
from stigmer_contract.cassette import Cassette, CassetteToolCall, Turn

PROVIDER_NAME = "replay"

_CHUNK = re.compile(r"\A\s*+\S++\s*+|\S++\s*+")  # linear also where there is space only


class ReplayModel(Model, Answers):
    """Plays a cassette.

    A request raises `ExecutionFailure` with `REPLAY_MISMATCH` where the conversation is not the recorded one.
    """

    def __init__(self, name: str, cassette: Cassette) -> None:
        """`name` is what the person called the cassette: `sha256:<hex>`, or a path."""
        super().__init__()
        self._name = name
        self._cassette = cassette

    @property
    def model_name(self) -> str:
        return self._name

    @property
    def system(self) -> str:
        return PROVIDER_NAME

    @property
    def called_tools(self) -> frozenset[str]:
        """The tools that the recording calls anywhere."""
        return frozenset(call.tool for turn in self._cassette.turns for call in turn.tool_calls)

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        return await self.answer(messages, model_settings, model_request_parameters, NoWatcher())

    async def answer(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
        watcher: Watcher,
    ) -> ModelResponse:
        """One turn, shown word by word."""
        index = find_turn(self._name, self._cassette, messages)
        turn = self._cassette.turns[index]
        await asyncio.sleep(turn.delay_seconds)
        for chunk in _chunks_of(turn.thinking):
            watcher.show_answer("thinking", chunk)
        for chunk in _chunks_of(turn.text):
            watcher.show_answer("text", chunk)
        return ModelResponse(
            parts=_parts_of(turn, index),
            usage=_usage_of(turn),
            model_name=self._name,
            provider_name=PROVIDER_NAME,
            finish_reason=_finish_reason_of(turn),
        )


def _chunks_of(text: str | None) -> list[str]:
    """Words, each with the space around it."""
    return _CHUNK.findall(text or "") or ([text] if text else [])


def _calls_of(turn: Turn, index: int) -> list[tuple[str, CassetteToolCall]]:
    """Each call with its id."""
    return [
        (call.id or f"call_{index + 1}_{place}", call) for place, call in enumerate(turn.tool_calls, start=1)
    ]


def _parts_of(turn: Turn, index: int) -> list[ModelResponsePart]:
    parts: list[ModelResponsePart] = []
    if turn.thinking is not None:
        parts.append(ThinkingPart(turn.thinking))
    if turn.text is not None:
        parts.append(TextPart(turn.text))
    parts.extend(ToolCallPart(call.tool, call.arguments, call_id) for call_id, call in _calls_of(turn, index))
    return parts


def _finish_reason_of(turn: Turn) -> FinishReason:
    return "tool_call" if turn.tool_calls else "stop"


def _usage_of(turn: Turn) -> RequestUsage:
    usage = turn.usage
    return RequestUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
