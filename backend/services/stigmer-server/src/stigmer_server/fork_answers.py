"""Forks in which a call has given something else than it did, or something before it was made."""

from collections.abc import Mapping, Sequence
from typing import Final

from stigmer_contract.conversation import AnswerToolCall, ModelAnswer, TextContent, ToolOutcome, ToolResult
from stigmer_contract.events import Event, ToolFinished, ToolStarted
from stigmer_server.blobs import BlobStore
from stigmer_server.errors import InvalidRequest

_ROOM: Final = 16


async def answered_otherwise(
    copied: Sequence[Event],
    asked: ModelAnswer,
    known: Sequence[Event],
    answers: Mapping[str, str],
    blobs: BlobStore,
) -> list[Event]:
    """The events of a fork's first turn, with these results in the place of those of before.

    Args:
        copied: what of the turn was done by the step, as the fork has it.
        asked: the answer that makes the calls.
        known: the parent's log, for what it knows of the calls.
        answers: what the model is told, by the id of the call.
        blobs: for results that are large.

    Raises:
        InvalidRequest: the turn has no such call.
    """
    calls = {part.call_id: part for part in asked.parts if isinstance(part, AnswerToolCall)}
    toolsets = {
        event.call_id: event.toolset for event in known if isinstance(event, ToolStarted | ToolFinished)
    }
    for call_id in answers:
        if call_id not in calls:
            there = ", ".join(calls) or "none"
            raise InvalidRequest(f"the turn of that step has no call {call_id!r}; its calls: {there}")
    kept = [
        event
        for event in copied
        if not (isinstance(event, ToolStarted | ToolFinished) and event.call_id in answers)
    ]
    for call_id, text in answers.items():
        result = ToolResult(outcome=ToolOutcome.SUCCEEDED, content=[TextContent(text=text)])
        kept.append(
            ToolFinished(
                turn=1,
                call_id=call_id,
                toolset=toolsets.get(call_id, ""),
                tool=calls[call_id].tool,
                outcome=ToolOutcome.SUCCEEDED,
                result=await blobs.wrap_value(result.to_json(), room=_ROOM),
                duration_seconds=0,
            )
        )
    return kept
