"""Results of tool calls in the journal's form, pydantic-ai's `CallToolResult` as JSON: made, read and played.

What the model is told of a call that did not come to an end stands here, and nowhere else.
"""

from typing import Any, Final

from pydantic import JsonValue, TypeAdapter
from pydantic_ai.durable_exec import CallToolResult
from pydantic_ai.exceptions import ModelRetry, RunCancelled, ToolFailed, ToolFailedError, ToolRetryError
from pydantic_ai.messages import ToolReturnPart

from stigmer_contract.conversation import ToolOutcome

OUTCOME_UNKNOWN: Final = (
    "Outcome unknown: the runner was stopped while this call was running, so it may have done nothing, a "
    "part or all of its work. Look at the present state before you decide whether to do it again."
)
STOPPED_IN_THE_MIDDLE: Final = (
    "The call was stopped while it was running, so it may have done nothing, a part or all of its work. "
    "Look at the present state before you decide whether to do it again."
)
AFTER_UNKNOWN: Final = (
    "The call was not carried out: the outcome of an earlier call of the same answer is unknown. Look at the "
    "present state, then make this call again if it still fits."
)
CUT_OFF_BY_LENGTH: Final = (
    "The call was not carried out: the answer was cut off at the longest that the model may write, and the "
    "call's arguments with it. Make the call again with less in it, or in parts."
)
STOPPED_READING: Final = "The call was stopped before it had a result; it changes nothing."
NOT_CARRIED_OUT: Final = "The call was not carried out"

_RESULT: TypeAdapter[Any] = TypeAdapter(CallToolResult)
_OUTCOMES_OF_PARTS: Final = {
    "success": ToolOutcome.SUCCEEDED,
    "retried": ToolOutcome.INVALID,
    "denied": ToolOutcome.DENIED,
    "interrupted": ToolOutcome.CANCELLED,
}


def told(message: str) -> JsonValue:
    """A result that tells the model of a call that did not succeed."""
    return {"kind": "tool_failed", "message": message}


def to_be_corrected(message: str) -> JsonValue:
    """A result that asks the model for another try."""
    return {"kind": "model_retry", "message": message}


def message_of(result: JsonValue) -> str:
    """What the model is told by a result of `told` or `to_be_corrected`."""
    message = result.get("message") if isinstance(result, dict) else None
    return message if isinstance(message, str) else ""


def unexecuted(part: ToolReturnPart) -> tuple[ToolOutcome, JsonValue]:
    """How a call went that pydantic-ai answered by itself, and its result, which the part says."""
    outcome = _OUTCOMES_OF_PARTS.get(part.outcome, ToolOutcome.FAILED)
    text = part.model_response_str(wrap_if_error=False)
    if outcome is ToolOutcome.SUCCEEDED:
        return outcome, {"kind": "tool_return", "result": text}
    return outcome, to_be_corrected(text) if outcome is ToolOutcome.INVALID else told(text)


def with_note(result: JsonValue, note: str | None) -> JsonValue:
    """A result with something that the model is told before it."""
    if note is None or not isinstance(result, dict):
        return result
    if isinstance(message := result.get("message"), str):
        return {**result, "message": f"{note}\n{message}"}
    if "result" not in result:
        return result
    match result["result"]:
        case str() as text:
            return {**result, "result": f"{note}\n{text}"}
        case list() as several:
            return {**result, "result": [note, *several]}
        case other:
            return {**result, "result": {"note": note, "result": other}}


def dump_return(value: object) -> JsonValue:
    """What a tool returned, in the journal's form."""
    return _RESULT.dump_python(_RESULT.validate_python({"kind": "tool_return", "result": value}), mode="json")


def dump_error(error: Exception) -> JsonValue | None:
    """What a tool raised to tell the model, in the journal's form; None: it is no such thing."""
    match error:
        case ToolRetryError():
            part = error.tool_retry
            return to_be_corrected(
                part.model_response_str(wrap_if_error=False)
                if isinstance(part, ToolReturnPart)
                else str(part.content)
            )
        case ToolFailedError():
            return told(error.tool_failed.model_response_str(wrap_if_error=False))
        case ModelRetry():
            return to_be_corrected(error.message)
        case ToolFailed():
            return told(error.message)
        case RunCancelled():
            return {"kind": "run_cancelled", "message": error.message}
        case _:
            return None


def play(result: JsonValue) -> object:
    """Return what the recorded call returned, or raise what it raised."""
    read = _RESULT.validate_python(result)
    match read.kind:
        case "tool_return" | "tool_content_result":
            return read.result
        case "model_retry":
            raise ModelRetry(read.message)
        case "run_cancelled":
            raise RunCancelled(read.message)
        case _:
            raise ToolFailed(message_of(result))
