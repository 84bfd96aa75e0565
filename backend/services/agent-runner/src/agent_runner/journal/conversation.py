"""Turns the logs of a session's earlier executions into the messages the model is shown.

The log is the conversation; nothing else is kept. What the person said, what the model answered and what
tools returned is taken as recorded, whether the execution ended well or not.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from pydantic import JsonValue, TypeAdapter
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from stigmer_contract.events import ExecutionStarted, ModelResponded, Payload, RecordedEvent, ToolFinished

_MODEL_RESPONSE: TypeAdapter[ModelResponse] = TypeAdapter(ModelResponse)
_NOT_CARRIED_OUT = "The call was not carried out."

LoadPayload = Callable[[Payload], Awaitable[JsonValue]]


async def messages_of(events: Sequence[RecordedEvent], load: LoadPayload) -> list[ModelMessage]:
    """The messages of one execution, in order; every tool call in them has its return.

    `events` is the execution's whole log, ascending by sequence.
    """
    messages: list[ModelMessage] = []
    returns: dict[tuple[int, str], ModelRequestPart] = {}
    for recorded in events:
        if isinstance(recorded.event, ToolFinished):
            finished = recorded.event
            result = await load(finished.result)
            returns[finished.turn, finished.call_id] = _return_part(finished, result)
    for recorded in events:
        event = recorded.event
        if isinstance(event, ExecutionStarted):
            messages.append(ModelRequest(parts=[UserPromptPart(str(await load(event.input)))]))
        elif isinstance(event, ModelResponded):
            response = _MODEL_RESPONSE.validate_python(await load(event.response))
            messages.append(response)
            parts = [
                returns.get((event.turn, part.tool_call_id))
                or ToolReturnPart(part.tool_name, _NOT_CARRIED_OUT, part.tool_call_id)
                for part in response.parts
                if isinstance(part, ToolCallPart)
            ]
            if parts:
                messages.append(ModelRequest(parts=parts))
    return messages


def _return_part(finished: ToolFinished, result: JsonValue) -> ModelRequestPart:
    """The message part of a result in the journal's form (`CallToolResult` as JSON)."""
    fields = cast("dict[str, JsonValue]", result) if isinstance(result, dict) else {"result": result}
    match fields.get("kind"):
        case "model_retry":
            return ToolReturnPart(
                finished.tool, str(fields.get("message")), finished.call_id, outcome="retried"
            )
        case "tool_failed" | "run_cancelled" | "validation_error":
            content: JsonValue = fields.get("message") or fields.get("title")
            return ToolReturnPart(finished.tool, content, finished.call_id, outcome="failed")
        case _:
            content = fields.get("result")
            if isinstance(content, dict) and content.get("kind") == "tool-return":
                content = content.get("return_value")
            return ToolReturnPart(finished.tool, content, finished.call_id)
