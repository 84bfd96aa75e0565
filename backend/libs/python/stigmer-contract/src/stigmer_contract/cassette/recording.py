"""Turns an execution's log into the cassette that plays it again."""

import json
from collections.abc import Callable, Sequence
from typing import cast

from pydantic import JsonValue

from stigmer_contract.cassette.format import (
    Cassette,
    CassetteToolCall,
    CassetteUsage,
    Expectation,
    ExpectedResult,
    Turn,
)
from stigmer_contract.conversation import (
    AnswerToolCall,
    DataContent,
    ModelAnswer,
    TextContent,
    ToolOutcome,
    ToolResult,
)
from stigmer_contract.events import (
    AnyEvent,
    BlobPayload,
    ExecutionStarted,
    ModelResponded,
    Payload,
    RecordedEvent,
    ToolFinished,
    Usage,
)


def cassette_from_events(events: Sequence[RecordedEvent], load: Callable[[str], bytes]) -> Cassette:
    """The cassette that plays an execution again.

    Args:
        events: the whole log of an execution, ascending by sequence; or the logs of a session's
            executions one after the other.
        load: the content of a blob by its SHA-256.

    Raises:
        ValueError: no model answered in this log.
    """
    recording = _Recording(load)
    for recorded in events:
        recording.take(recorded.event)
    return recording.cassette()


class _Recording:
    """Collects turns from events; the only state is where in the conversation it stands."""

    def __init__(self, load: Callable[[str], bytes]) -> None:
        self._load = load
        self._agent: str | None = None
        self._model: str | None = None
        self._turns: list[Turn] = []
        self._prompt: str | None = None
        self._results: dict[str, ExpectedResult] = {}
        """By call id, of the answer that was taken last."""
        self._calls: list[CassetteToolCall] = []

    def take(self, event: AnyEvent) -> None:
        if getattr(event, "agent_path", ""):
            return  # of an agent that a tool ran; what it said is in the tool's result
        if isinstance(event, ExecutionStarted):
            self._agent = self._agent or event.agent_name
            self._prompt = str(self._value(event.input))
            self._calls = []
        elif isinstance(event, ModelResponded):
            self._model = self._model or event.model
            self._turns.append(self._turn(event))
        elif isinstance(event, ToolFinished):
            self._results[event.call_id] = self._expected_result(event)

    def cassette(self) -> Cassette:
        if not self._turns:
            raise ValueError("there is no model answer in this log, so there is nothing to play again")
        return Cassette(version=1, agent=self._agent, model=self._model, turns=self._turns)

    def _value(self, payload: Payload) -> JsonValue:
        if isinstance(payload, BlobPayload):
            return cast("JsonValue", json.loads(self._load(payload.sha256)))
        return payload.value

    def _turn(self, event: ModelResponded) -> Turn:
        expect = self._expectation()
        answer = ModelAnswer.model_validate(self._value(event.response))
        self._calls = [_tool_call(call) for call in answer.tool_calls]
        self._results = {}
        return Turn(
            expect=expect,
            thinking=answer.thinking or None,
            text=answer.text if answer.text or not self._calls else None,
            tool_calls=self._calls,
            usage=_usage(event.usage),
        )

    def _expectation(self) -> Expectation | None:
        if self._prompt is not None:
            prompt, self._prompt = self._prompt, None
            return Expectation(prompt=prompt)
        if not self._calls:
            return None  # the answer was empty, and the model was asked again
        return Expectation(
            results=[
                self._results.get(call.id or "") or ExpectedResult(tool=call.tool) for call in self._calls
            ]
        )

    def _expected_result(self, event: ToolFinished) -> ExpectedResult:
        if event.outcome is ToolOutcome.UNKNOWN:
            return ExpectedResult(tool=event.tool)  # a runner died there; the next time none does
        match ToolResult.model_validate(self._value(event.result)).content:
            case [TextContent(text=text)]:
                return ExpectedResult(tool=event.tool, result=text)
            case [DataContent(value=value)] if event.outcome is not ToolOutcome.INVALID:
                return ExpectedResult(tool=event.tool, result=value)
            case _:  # what is wrong with arguments is said in other words by another version
                return ExpectedResult(tool=event.tool)


def _tool_call(call: AnswerToolCall) -> CassetteToolCall:
    return CassetteToolCall(id=call.call_id, tool=call.tool, arguments=call.arguments)


def _usage(usage: Usage) -> CassetteUsage:
    return CassetteUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
