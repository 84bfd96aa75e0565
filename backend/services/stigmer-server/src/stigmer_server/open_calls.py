"""What becomes of the calls that are open when the server ends an execution that no runner has in hand.

Each call that an answer asks for gets its one `tool.finished`, whoever ends the execution.
"""

from collections.abc import Callable, Sequence
from typing import Final

from pydantic import JsonValue
from sqlalchemy import Connection, select

from stigmer_contract.conversation import AnswerToolCall, ModelAnswer, TextContent, ToolOutcome, ToolResult
from stigmer_contract.events import (
    EVENT_ADAPTER,
    LOG_FORMAT,
    InlinePayload,
    ModelResponded,
    Payload,
    ToolFinished,
    ToolStarted,
)
from stigmer_server.tables import events

TELLING_TYPES: Final = ("model.responded", "tool.started", "tool.finished")
OUTCOME_UNKNOWN: Final = (
    "Outcome unknown: the runner was lost while this call was running, and the execution was cancelled, so "
    "it may have done nothing, a part or all of its work. Look at the present state before you decide "
    "whether to do it again."
)
STOPPED_READING: Final = "The call was stopped before it had a result; it changes nothing."
NOT_CARRIED_OUT: Final = "The call was not carried out: the execution was cancelled before."

_Key = tuple[str, int, str]
"""The path of the agent whose call it is, the turn, and the call's id."""


def endings_of_open_calls(
    connection: Connection, execution_id: str, load: Callable[[Payload], JsonValue]
) -> Sequence[ToolFinished]:
    """How the calls end that are open, in the order in which they were asked for.

    `load` gives the value of a payload of the log. In a log of an older format they stay as they are: readers
    know what to think of them.
    """
    query = (
        select(events.c.body, events.c.format)
        .where(events.c.execution_id == execution_id, events.c.type.in_(TELLING_TYPES))
        .order_by(events.c.sequence)
    )
    answers: dict[str, ModelResponded] = {}
    started: dict[_Key, ToolStarted] = {}
    finished: set[_Key] = set()
    for row in connection.execute(query):
        if row.format != LOG_FORMAT:
            return []
        match EVENT_ADAPTER.validate_json(row.body):
            case ModelResponded() as event:
                answers[event.agent_path] = event
            case ToolStarted() as event:
                started[event.agent_path, event.turn, event.call_id] = event
            case ToolFinished() as event:
                finished.add((event.agent_path, event.turn, event.call_id))
            case _:
                pass
    endings: list[ToolFinished] = []
    for answer in answers.values():
        for call in ModelAnswer.model_validate(load(answer.response)).tool_calls:
            key = (answer.agent_path, answer.turn, call.call_id)
            if key not in finished:
                endings.append(_ending(answer, call, started.get(key)))
    return endings


def _ending(answer: ModelResponded, call: AnswerToolCall, started: ToolStarted | None) -> ToolFinished:
    if started is None:
        outcome, text = ToolOutcome.CANCELLED, NOT_CARRIED_OUT
    elif started.side_effects:
        outcome, text = ToolOutcome.UNKNOWN, OUTCOME_UNKNOWN
    else:
        outcome, text = ToolOutcome.CANCELLED, STOPPED_READING
    result = ToolResult(outcome=outcome, content=[TextContent(text=text)])
    return ToolFinished(
        agent_path=answer.agent_path,
        turn=answer.turn,
        call_id=call.call_id,
        toolset="" if started is None else started.toolset,
        tool=call.tool,
        outcome=outcome,
        result=InlinePayload(value=result.to_json()),
        duration_seconds=0,
    )
