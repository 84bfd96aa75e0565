"""Finds what a session's model was shown: the stored pieces, which logs tell the rest, and where it was told
to work. Reads no messages.

A piece holds what is new since the piece before it, whichever execution of the session wrote that, so only
executions after the newest piece have to be read event by event.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, or_, select

from stigmer_contract.api import EarlierLog, Resumption
from stigmer_contract.events import EVENT_ADAPTER, EnvironmentDescribed, HistoryStored, Payload
from stigmer_server.execution_state import ExecutionState
from stigmer_server.tables import ENVIRONMENT_TYPE, HISTORY_TYPE, events, executions

TELLING_TYPES: Final = (
    "execution.started",
    "model.responded",
    "model.interrupted",
    "tool.started",
    "tool.finished",
    "message.received",
)
"""Events that tell of messages."""
MAX_ENVIRONMENTS: Final = 20
"""A session needs one for each kind of agent that works in it; what is not among the oldest is told anew."""


@dataclass(frozen=True, slots=True)
class SessionHistory:
    """What was shown before the next request of an execution."""

    pieces: Sequence[Payload]
    """Oldest first."""
    earlier: Sequence[EarlierLog]
    """Executions that tell more than the pieces, oldest first."""
    resumption: Resumption | None
    """Where the execution's own newest piece ends."""
    after: int
    """Sequence of that piece; 0: it has none."""
    environments: Sequence[EnvironmentDescribed]
    """What the session's agents were told of where they work, oldest first."""


def find_history(connection: Connection, state: ExecutionState) -> SessionHistory:
    """The history of an execution and those before it in its session, as the log stood at `state`."""
    pieces: list[HistoryStored] = []
    place, sequence, is_own = 0, 0, False
    newer = (0, 0)
    for row in connection.execute(_events_of(state, HISTORY_TYPE)):
        stored = EVENT_ADAPTER.validate_json(row.body)
        assert isinstance(stored, HistoryStored)
        if stored.more_follows and newer != (row.place, row.sequence + 1):
            continue  # a part whose rest was never written
        newer = (row.place, row.sequence)
        if not pieces:
            place, sequence, is_own = row.place, row.sequence, row.place == state.place
        pieces.append(stored)
        if stored.replaces:
            break
    newest = pieces[0] if is_own else None
    return SessionHistory(
        pieces=[piece.messages for piece in reversed(pieces)],
        earlier=[] if is_own else _find_earlier(connection, state, place, sequence),
        resumption=newest and Resumption(turn=newest.turn, usage=newest.usage, counters=newest.counters),
        after=sequence if is_own else 0,
        environments=_find_environments(connection, state),
    )


def _find_environments(connection: Connection, state: ExecutionState) -> list[EnvironmentDescribed]:
    found: list[EnvironmentDescribed] = []
    for row in list(connection.execute(_events_of(state, ENVIRONMENT_TYPE)))[::-1][:MAX_ENVIRONMENTS]:
        described = EVENT_ADAPTER.validate_json(row.body)
        assert isinstance(described, EnvironmentDescribed)
        found.append(described)
    return found


def _events_of(state: ExecutionState, event_type: str) -> Select[Any, Any, Any]:
    """The session's events of a type that has an index, newest first."""
    return (
        select(executions.c.place, events.c.sequence, events.c.body)
        .join(events, events.c.execution_id == executions.c.execution_id)
        .where(
            executions.c.session_id == state.session_id,
            or_(
                executions.c.place < state.place,
                (executions.c.place == state.place) & (events.c.sequence <= state.last_sequence),
            ),
            events.c.type == event_type,
        )
        .order_by(executions.c.place.desc(), events.c.sequence.desc())
    )


def _find_earlier(
    connection: Connection, state: ExecutionState, place: int, sequence: int
) -> list[EarlierLog]:
    """Executions from the newest piece's on; its own only where something was said after the piece."""
    query = (
        select(executions.c.execution_id, executions.c.place)
        .where(
            executions.c.session_id == state.session_id,
            executions.c.place >= max(place, 1),
            executions.c.place < state.place,
        )
        .order_by(executions.c.place)
    )
    found: list[EarlierLog] = []
    for row in connection.execute(query):
        after = sequence if row.place == place else 0
        telling = select(events.c.sequence).where(
            events.c.execution_id == row.execution_id,
            events.c.sequence > after,
            events.c.type.in_(TELLING_TYPES),
        )
        if connection.execute(telling.limit(1)).first() is not None:
            found.append(EarlierLog(execution_id=row.execution_id, after=after))
    return found
