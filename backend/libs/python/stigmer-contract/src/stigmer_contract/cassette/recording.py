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
from stigmer_contract.events import (
    BlobPayload,
    Event,
    ExecutionStarted,
    ModelResponded,
    Payload,
    RecordedEvent,
    ToolFinished,
    ToolOutcome,
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

    def take(self, event: Event) -> None:
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
        parts = _parts_of(self._value(event.response))
        self._calls = [_tool_call(part) for part in parts if part.get("part_kind") == "tool-call"]
        self._results = {}
        thinking = "".join(str(part["content"]) for part in parts if part.get("part_kind") == "thinking")
        text = "".join(str(part["content"]) for part in parts if part.get("part_kind") == "text")
        return Turn(
            expect=expect,
            thinking=thinking or None,
            text=text if text or not self._calls else None,
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
        value = self._value(event.result)
        fields = cast("dict[str, JsonValue]", value) if isinstance(value, dict) else {}
        match fields.get("kind"):
            case _ if event.outcome is ToolOutcome.UNKNOWN:
                return ExpectedResult(tool=event.tool)  # a runner died there; the next time none does
            case "tool_return" | "tool_content_result":
                result = fields.get("result")
                if isinstance(result, dict) and result.get("kind") == "tool-return":
                    result = result.get("return_value")
                return ExpectedResult(tool=event.tool, result=result)
            case "model_retry" | "tool_failed" | "run_cancelled":
                return ExpectedResult(tool=event.tool, result=fields.get("message"))
            case _:
                return ExpectedResult(tool=event.tool)


def _parts_of(response: JsonValue) -> list[dict[str, JsonValue]]:
    parts = response.get("parts") if isinstance(response, dict) else None
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _tool_call(part: dict[str, JsonValue]) -> CassetteToolCall:
    arguments = part.get("args")
    if isinstance(arguments, str):
        try:
            parsed = cast("JsonValue", json.loads(arguments or "{}"))
        except ValueError:
            parsed = None
        arguments = parsed if isinstance(parsed, dict) else arguments
    return CassetteToolCall(
        id=str(part["tool_call_id"]),
        tool=str(part["tool_name"]),
        arguments=arguments if isinstance(arguments, dict | str) else {},
    )


def _usage(usage: Usage) -> CassetteUsage:
    return CassetteUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
