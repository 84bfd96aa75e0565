"""Stores and loads answers and results of the log. The log speaks our own words; the agent pydantic-ai's.

Only here the one becomes the other, and what the journal reads in an answer stands here, too. What another
version of pydantic-ai wrote beside our words is used where this version takes it; else our words alone are.
"""

import json
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final, NamedTuple, Protocol

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_ai.durable_exec import CallToolResult
from pydantic_ai.messages import ModelResponse

from agent_runner.models import ESTIMATED, price_of
from stigmer_contract.conversation import ModelAnswer, ToolOutcome, ToolResult
from stigmer_contract.events import Payload, Usage
from stigmer_contract.pydantic_ai_format import (
    answer_from_pydantic_ai,
    answer_to_pydantic_ai,
    result_from_pydantic_ai,
    result_to_pydantic_ai,
)

WRITTEN_BY: Final = f"pydantic-ai {version('pydantic-ai-slim')}"

_MODEL_RESPONSE: Final[TypeAdapter[ModelResponse]] = TypeAdapter(ModelResponse)
_TOOL_RESULT: Final[TypeAdapter[Any]] = TypeAdapter(CallToolResult)


class Payloads(Protocol):
    """Wraps values for the log: inline, or as blobs where they are large."""

    async def store_payload(self, value: JsonValue) -> Payload:
        """Wrap the value."""
        ...

    async def load_payload(self, payload: Payload) -> JsonValue:
        """The value again."""
        ...

    async def store_text(self, text: bytes) -> Payload:
        """Wrap a value that is JSON text already."""
        ...


class Bodies:
    """The bodies of one execution's answers and results."""

    def __init__(self, payloads: Payloads) -> None:
        """`payloads` is the leg's client."""
        self._payloads = payloads

    async def store_answer(self, response: JsonValue) -> Payload:
        """Keep an answer; `response` is a `ModelResponse` as JSON."""
        return await self._payloads.store_payload(answer_from_pydantic_ai(response, WRITTEN_BY).to_json())

    async def load_answer(self, payload: Payload) -> JsonValue:
        """The answer as `ModelResponse` as JSON."""
        return response_of(ModelAnswer.model_validate(await self._payloads.load_payload(payload)))

    async def store_result(self, result: JsonValue, outcome: ToolOutcome) -> Payload:
        """Keep a tool call's result; `result` is a `CallToolResult` as JSON."""
        return await self._payloads.store_payload(
            result_from_pydantic_ai(result, WRITTEN_BY, outcome).to_json()
        )

    async def load_result(self, payload: Payload) -> JsonValue:
        """The result as `CallToolResult` as JSON."""
        return returned_by(ToolResult.model_validate(await self._payloads.load_payload(payload)))

    async def store_value(self, value: JsonValue) -> Payload:
        """Keep anything else."""
        return await self._payloads.store_payload(value)

    async def store_text(self, text: bytes) -> Payload:
        """Keep what is JSON text already."""
        return await self._payloads.store_text(text)

    async def load_value(self, payload: Payload) -> JsonValue:
        """Anything else that is kept."""
        return await self._payloads.load_payload(payload)


def response_of(answer: ModelAnswer) -> JsonValue:
    """An answer as this version of pydantic-ai takes it: `ModelResponse` as JSON."""
    exact = answer_to_pydantic_ai(answer)
    by = answer.exact.by if answer.exact is not None else None
    return (
        exact
        if _takes(_MODEL_RESPONSE.validate_python, exact, by)
        else answer_to_pydantic_ai(answer, exactly=False)
    )


def returned_by(result: ToolResult) -> JsonValue:
    """A result as this version of pydantic-ai takes it: `CallToolResult` as JSON."""
    exact = result_to_pydantic_ai(result)
    by = result.exact.by if result.exact is not None else None
    return (
        exact
        if _takes(_TOOL_RESULT.validate_python, exact, by)
        else result_to_pydantic_ai(result, exactly=False)
    )


def _takes(validate: Callable[[JsonValue], object], value: JsonValue, by: str | None) -> bool:
    if by == WRITTEN_BY:
        return True
    try:
        validate(value)
    except ValidationError:
        return False
    return True


class AskedCall(NamedTuple):
    """A tool call that an answer asks for."""

    call_id: str
    tool: str
    arguments: JsonValue
    """A JSON object, or a text that was to be one."""


def calls_in(answer: JsonValue) -> list[AskedCall]:
    """The tool calls that an answer asks for, in its order."""
    parts = answer.get("parts") if isinstance(answer, dict) else None
    return [
        AskedCall(str(part.get("tool_call_id")), str(part.get("tool_name")), part.get("args"))
        for part in (parts if isinstance(parts, list) else [])
        if isinstance(part, dict) and part.get("part_kind") == "tool-call"
    ]


def is_submitted(answer: JsonValue) -> bool:
    """Whether it is none yet: the request was handed in, and is to be collected."""
    return isinstance(answer, dict) and answer.get("state") == "suspended"


def is_cut_off(answer: JsonValue, call: AskedCall) -> bool:
    """Whether the call's arguments end where the answer was cut off at its greatest length."""
    if not isinstance(answer, dict) or answer.get("finish_reason") != "length":
        return False
    if not isinstance(call.arguments, str):
        return False
    try:
        json.loads(call.arguments or "{}")
    except ValueError:
        return True
    return False


def usage_of_answer(answer: JsonValue) -> Usage:
    """What an answer was paid for."""
    parsed = _MODEL_RESPONSE.validate_python(answer)
    return Usage(
        requests=1,
        input_tokens=parsed.usage.input_tokens,
        output_tokens=parsed.usage.output_tokens,
        cache_read_tokens=parsed.usage.cache_read_tokens,
        cache_write_tokens=parsed.usage.cache_write_tokens,
        cost_usd=price_of(parsed),
        estimated=ESTIMATED in parsed.usage.details,
    )


def usage_of_operation(result: JsonValue) -> Usage | None:
    """What a capability's operation was paid for; None where it asked no model."""
    delta = result.get("usage_delta") if isinstance(result, dict) else None
    if not isinstance(delta, dict):
        return None
    counts = {
        name: count
        for name in Usage.model_fields
        if name != "cost_usd" and isinstance(count := delta.get(name), int)
    }
    usage = Usage.model_validate(counts)
    return usage if usage != Usage() else None
