"""Stores and loads answers and results of the log. The log speaks our own words; the agent pydantic-ai's.

Only here the one becomes the other. What another version of pydantic-ai wrote beside our words is used where
this version takes it; else our words alone are.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_ai.durable_exec import CallToolResult
from pydantic_ai.messages import ModelResponse

from agent_runner.server_client import ServerClient
from stigmer_contract.conversation import ModelAnswer, ToolOutcome, ToolResult
from stigmer_contract.events import Payload
from stigmer_contract.pydantic_ai_format import (
    answer_from_pydantic_ai,
    answer_to_pydantic_ai,
    result_from_pydantic_ai,
    result_to_pydantic_ai,
)

WRITTEN_BY: Final = f"pydantic-ai {version('pydantic-ai-slim')}"

_MODEL_RESPONSE: Final[TypeAdapter[ModelResponse]] = TypeAdapter(ModelResponse)
_TOOL_RESULT: Final[TypeAdapter[Any]] = TypeAdapter(CallToolResult)


class Bodies:
    """The bodies of one execution's answers and results."""

    def __init__(self, client: ServerClient) -> None:
        """`client` holds the leg's lease."""
        self._client = client

    async def store_answer(self, response: JsonValue) -> Payload:
        """Keep an answer; `response` is a `ModelResponse` as JSON."""
        return await self._client.store_payload(answer_from_pydantic_ai(response, WRITTEN_BY).to_json())

    async def load_answer(self, payload: Payload) -> JsonValue:
        """The answer as `ModelResponse` as JSON."""
        return response_of(ModelAnswer.model_validate(await self._client.load_payload(payload)))

    async def store_result(self, result: JsonValue, outcome: ToolOutcome) -> Payload:
        """Keep a tool call's result; `result` is a `CallToolResult` as JSON."""
        return await self._client.store_payload(
            result_from_pydantic_ai(result, WRITTEN_BY, outcome).to_json()
        )

    async def load_result(self, payload: Payload) -> JsonValue:
        """The result as `CallToolResult` as JSON."""
        return returned_by(ToolResult.model_validate(await self._client.load_payload(payload)))


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
