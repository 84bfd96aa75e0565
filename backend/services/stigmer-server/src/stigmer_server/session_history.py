"""Finds what a session's model was shown: the stored pieces, which logs tell the rest, and where it was told
to work. Reads no messages.

A piece holds what is new since the piece before it, whichever execution of the session wrote that, so only
executions after the newest piece have to be read event by event.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, Select, or_, select

from stigmer_contract.api import EarlierLog, Resumption
from stigmer_contract.events import (
    EVENT_ADAPTER,
    EnvironmentDescribed,
    ExecutionStarted,
    ForkOrigin,
    HistoryStored,
    Payload,
)
from stigmer_contract.phases import ExecutionPhase
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
    ancestors: Sequence[EarlierLog] = ()
    """Executions that this session was forked from, or brought back to, whole, oldest first."""
    previous: Sequence[str] = ()
    """Earlier executions of the session since then, oldest first."""


def find_history(connection: Connection, state: ExecutionState) -> SessionHistory:
    """The history of an execution and those before it in its session, as the log stood at `state`."""
    origin, begins_at = _find_base(connection, state)
    own = _find_pieces(connection, state, begins_at)
    newest = own.pieces[0] if own.is_own else None
    before = _NOTHING if own.is_whole or origin is None else _find_before(connection, origin)
    earlier = [] if own.is_own else _find_earlier(connection, state, own.place or begins_at, own.sequence)
    return SessionHistory(
        pieces=[*before.pieces, *(piece.messages for piece in reversed(own.pieces))],
        # What pieces of the session hold begins with all that there was before.
        earlier=[*([] if own.pieces else before.earlier), *earlier],
        resumption=newest and Resumption(turn=newest.turn, usage=newest.usage, counters=newest.counters),
        after=own.sequence if own.is_own else 0,
        environments=_find_environments(connection, state),
        ancestors=before.ancestors,
        previous=list(connection.execute(_earlier_ids(state, begins_at)).scalars()),
    )


def find_origin(connection: Connection, session_id: str) -> ForkOrigin | None:
    """Where the session was forked from; None: it was not."""
    query = (
        select(events.c.body)
        .join(executions, events.c.execution_id == executions.c.execution_id)
        .where(executions.c.session_id == session_id, executions.c.place == 1, events.c.sequence == 1)
    )
    body = connection.execute(query).scalar()
    if body is None:
        return None
    first = EVENT_ADAPTER.validate_json(body)
    assert isinstance(first, ExecutionStarted)
    return first.fork


def _find_base(connection: Connection, state: ExecutionState) -> tuple[ForkOrigin | None, int]:
    """What the session's conversation begins with before this execution, and the first place that adds to it.

    That is where it was brought back to last, else what it was forked from. A rewind that did not come to its
    end counts only for itself.
    """
    if state.place > 1:
        counts = (executions.c.phase == ExecutionPhase.COMPLETED.value) | (
            executions.c.execution_id == state.execution_id
        )
        query = (
            select(executions.c.place, events.c.body)
            .join(events, events.c.execution_id == executions.c.execution_id)
            .where(
                executions.c.session_id == state.session_id,
                executions.c.place <= state.place,
                executions.c.is_rewind,
                events.c.sequence == 1,
                counts,
            )
            .order_by(executions.c.place.desc())
            .limit(1)
        )
        row = connection.execute(query).one_or_none()
        if row is not None:
            first = EVENT_ADAPTER.validate_json(row.body)
            assert isinstance(first, ExecutionStarted)
            return first.fork, row.place
    return find_origin(connection, state.session_id), 1


@dataclass(frozen=True, slots=True)
class _Pieces:
    """The stored pieces of a session, up to one execution."""

    pieces: Sequence[HistoryStored]
    """Newest first."""
    place: int
    """Of the execution that has the newest; 0: there is none."""
    sequence: int
    """Of the newest in its log."""
    is_own: bool
    """Whether that is the execution's own."""

    @property
    def is_whole(self) -> bool:
        """Whether they need nothing that comes before them."""
        return bool(self.pieces) and self.pieces[-1].replaces


@dataclass(frozen=True, slots=True)
class _Before:
    """What there was before: forks share it with their parents."""

    pieces: Sequence[Payload] = ()
    earlier: Sequence[EarlierLog] = ()
    ancestors: Sequence[EarlierLog] = ()


_NOTHING: Final = _Before()


def _find_before(connection: Connection, origin: ForkOrigin) -> _Before:
    """What the model was shown before a fork began."""
    row = connection.execute(
        select(executions).where(executions.c.execution_id == origin.execution_id)
    ).one_or_none()
    if row is None:  # it was deleted: whoever reads it is told
        gone = [EarlierLog(execution_id=origin.execution_id, after=0, until=origin.sequence)]
        return _Before((), gone, gone)
    parent = replace(ExecutionState.from_row(row), last_sequence=origin.sequence)
    further, begins_at = _find_base(connection, parent)
    own = _find_pieces(connection, parent, begins_at)
    before = _NOTHING if further is None else _find_before(connection, further)
    earlier = _find_earlier(connection, parent, own.place or begins_at, own.sequence)
    if origin.sequence:
        after = own.sequence if own.is_own else 0
        earlier += [EarlierLog(execution_id=parent.execution_id, after=after, until=origin.sequence)]
    whole = [
        EarlierLog(execution_id=each, after=0)
        for each in connection.execute(_earlier_ids(parent, begins_at)).scalars()
    ] + [EarlierLog(execution_id=parent.execution_id, after=0, until=origin.sequence)]
    return _Before(
        pieces=[*([] if own.is_whole else before.pieces), *(each.messages for each in reversed(own.pieces))],
        earlier=[*([] if own.pieces else before.earlier), *earlier],
        ancestors=[*before.ancestors, *whole],
    )


def _earlier_ids(state: ExecutionState, begins_at: int) -> Select[Any]:
    return (
        select(executions.c.execution_id)
        .where(
            executions.c.session_id == state.session_id,
            executions.c.place >= begins_at,
            executions.c.place < state.place,
        )
        .order_by(executions.c.place)
    )


def _find_pieces(connection: Connection, state: ExecutionState, begins_at: int) -> _Pieces:
    """The pieces that the session's log holds from a place up to `state`, from the newest that replaces all
    before."""
    pieces: list[HistoryStored] = []
    place, sequence, is_own = 0, 0, False
    newer = (0, 0)
    for row in connection.execute(_events_of(state, HISTORY_TYPE)):
        if row.place < begins_at:
            break
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
    return _Pieces(pieces, place, sequence, is_own)


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
