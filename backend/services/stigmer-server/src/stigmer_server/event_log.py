"""The log of every execution: appends, in the order they came, and reads.

An append is a decision on the execution's state, taken inside the transaction that writes it. Appends that
wait at the same time are committed together (group commit), so that a busy server pays for one
durable write instead of many. Whoever must hear of events is told after the commit.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, bindparam, func, select

from stigmer_contract.events import (
    EVENT_ADAPTER,
    LOG_FORMAT,
    Event,
    ExecutionStarted,
    InputRequested,
    InputResolved,
    SnapshotTaken,
    TerminalEvent,
)
from stigmer_contract.inputs import InputOutcome
from stigmer_contract.named_blobs import blobs_named_by
from stigmer_server.blob_grants import grant_files_to_session, grant_to_sessions
from stigmer_server.database import Database, insert_all_where_absent
from stigmer_server.errors import CallRefused, NotFound, Unavailable
from stigmer_server.execution_state import CHANGING_COLUMNS, ExecutionState, Moment, advance
from stigmer_server.log_indexes import LogIndexes
from stigmer_server.policies import DailyCosts
from stigmer_server.search_index import SearchRows
from stigmer_server.steady_clock import SteadyClock
from stigmer_server.tables import blob_references, events, executions

logger = logging.getLogger(__name__)

FIRST_LOG_FORMAT: Final = 1
MAX_GROUP: Final = 128
"""Most appends of one transaction; bounds how long one of them waits for the others."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append, with its JSON, which is made before the transaction begins."""

    event: Event
    body: str
    blobs: frozenset[str] = frozenset()
    """The SHA-256 of each blob that the event names."""
    is_servers: bool = False
    """Whether it is the server's own, whatever attempt the change is of."""

    @classmethod
    def of(cls, event: Event, *, is_servers: bool = False) -> "NewEvent":
        """Serialise an event as the log keeps it: manifests inside it are camelCase."""
        body = EVENT_ADAPTER.dump_json(event, by_alias=True).decode()
        return cls(event, body, blobs_named_by(event), is_servers)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of the log, its body as JSON text."""

    sequence: int
    recorded_at: datetime
    attempt: int | None
    type: str
    body: str
    format: int = LOG_FORMAT

    def to_json(self) -> str:
        """The JSON of the contract's `RecordedEvent`, put together without parsing the body."""
        recorded_at = self.recorded_at.isoformat().replace("+00:00", "Z")
        attempt = "null" if self.attempt is None else self.attempt
        return (
            f'{{"sequence":{self.sequence},"recorded_at":"{recorded_at}",'
            f'"attempt":{attempt},"event":{self.body}}}'
        )


@dataclass(frozen=True, slots=True)
class Change:
    """What a decision does to an execution: `state` with other flags, then `new_events` on top of it."""

    state: ExecutionState
    new_events: Sequence[NewEvent] = ()
    attempt: int | None = None
    """Whose events they are; None: the server's own."""
    brought: frozenset[str] = frozenset()
    """The SHA-256 of each blob that came with the events: the session may read it from then on."""


Decision = Callable[[ExecutionState], Change]
"""Pure; raises a `CallRefused` to change nothing. May run in another thread."""


Check = Callable[[Connection], None]
"""Looks at what else the database holds, inside the transaction; raises a `CallRefused` to change nothing."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append led to."""

    state: ExecutionState
    stored: Sequence[StoredEvent]
    last_sequence: int
    """The log's end right after this append, also when it is asked for again later."""


@dataclass(slots=True)
class _Append:
    execution_id: str
    decide: Decision
    append_id: str | None
    check: "Check | None"
    future: "asyncio.Future[Appended]"
    outcome: Appended | Exception | None = None


@dataclass(slots=True)
class _Group:
    """Rows of one transaction."""

    states: dict[str, ExecutionState]
    seen: dict[tuple[str, str], int]
    """Last sequence by execution and append id."""
    rows: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    blobs: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """Execution id and SHA-256."""
    grants: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """SHA-256 and the id of the session that brought it."""
    files: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """SHA-256 of what new snapshots consist of, by the session."""
    changed: set[str] = field(default_factory=set[str])
    costs: DailyCosts = field(default_factory=lambda: DailyCosts(""))
    indexes: LogIndexes = field(default_factory=LogIndexes)


Listener = Callable[[ExecutionState, Sequence[StoredEvent]], None]
"""Called in the event loop after a commit, in the log's order. Must not block or raise."""

# Built once: to build a statement takes SQLAlchemy as long as SQLite to run it.
_select_states = (
    select(executions)
    .where(executions.c.execution_id.in_(bindparam("execution_ids", expanding=True)))
    # Sorted, so that two servers on one database lock in the same order.
    .order_by(executions.c.execution_id)
    .with_for_update()
)
_select_seen = (
    select(events.c.execution_id, events.c.append_id, func.max(events.c.sequence))
    .where(
        events.c.execution_id.in_(bindparam("execution_ids", expanding=True)),
        events.c.append_id.in_(bindparam("append_ids", expanding=True)),
    )
    .group_by(events.c.execution_id, events.c.append_id)
)
_STORED = (
    events.c.sequence,
    events.c.recorded_at,
    events.c.attempt,
    events.c.type,
    events.c.body,
    events.c.format,
)
"""The columns of a `StoredEvent`, in its order."""
_insert_events = events.insert()
_update_state = (
    executions.update()
    .where(executions.c.execution_id == bindparam("key"))
    .values({name: bindparam(f"new_{name}") for name in CHANGING_COLUMNS})
)


class EventLog:
    """Appends and reads. `run` must be running for appends to be answered."""

    def __init__(
        self,
        database: Database,
        clock: SteadyClock,
        listener: Listener,
        observe_append: Callable[[float, int], None],
    ) -> None:
        """`observe_append` is told the seconds and the number of events of each append."""
        self.clock: Final = clock
        self._database = database
        self._listener = listener
        self._observe_append = observe_append
        self._waiting: list[_Append] = []
        self._wake = asyncio.Event()
        self._closed = False

    async def append(
        self,
        execution_id: str,
        decide: Decision,
        append_id: str | None = None,
        check: Check | None = None,
    ) -> Appended:
        """Let a decision change an execution; durable on return.

        With an `append_id` that the execution's log has already seen, nothing is decided or changed, and
        `stored` of the answer is empty. A `check` comes after a decision that adds events.

        Raises:
            NotFound: there is no such execution.
            CallRefused: what the decision raised.
            Unavailable: the database does not answer. Whether the append was made is then unknown.
        """
        if self._closed:
            raise Unavailable("the server is stopping")
        started = time.perf_counter()
        append = _Append(execution_id, decide, append_id, check, asyncio.get_running_loop().create_future())
        self._waiting.append(append)
        self._wake.set()
        appended = await append.future
        self._observe_append(time.perf_counter() - started, len(appended.stored))
        return appended

    async def run(self) -> None:
        """Write what is waiting, until `close`; then write what is left and return."""
        while self._waiting or not self._closed:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
                await self._write(group)

    def close(self) -> None:
        """Take no more appends, and let `run` return."""
        self._closed = True
        self._wake.set()

    async def _write(self, group: list[_Append]) -> None:
        try:
            await self._database.write(lambda connection: _write_group(connection, group, self.clock))
        except Unavailable as error:
            logger.warning("%d appends were not written: %s", len(group), error)
            for append in group:
                append.outcome = error
        except Exception as error:
            if len(group) > 1:
                # Whatever it is, it must not be the ruin of the others.
                for append in group:
                    await self._write([append])
                return
            execution_id = group[0].execution_id
            logger.exception("an append was not written", extra={"execution_id": execution_id})
            group[0].outcome = error
        for append in group:
            self._answer(append)

    def _answer(self, append: _Append) -> None:
        outcome = append.outcome
        assert outcome is not None
        if isinstance(outcome, Appended):
            if outcome.stored:
                self._listener(outcome.state, outcome.stored)
            if not append.future.done():
                append.future.set_result(outcome)
        elif not append.future.done():
            append.future.set_exception(outcome)

    async def read(self, execution_id: str, after: int, limit: int) -> list[StoredEvent]:
        """Events with a sequence greater than `after`, ascending, at most `limit`."""

        def work(connection: Connection) -> list[StoredEvent]:
            return read_events(connection, execution_id, after, limit)

        return await self._database.read(work)

    async def read_last_sequences(self, execution_ids: Sequence[str]) -> dict[str, int]:
        """The ends of some logs, by execution id."""
        query = select(executions.c.execution_id, executions.c.last_sequence).where(
            executions.c.execution_id.in_(execution_ids)
        )

        def work(connection: Connection) -> dict[str, int]:
            return {row[0]: row[1] for row in connection.execute(query)}

        return await self._database.read(work)


def read_events(
    connection: Connection, execution_id: str, after: int = 0, limit: int | None = None
) -> list[StoredEvent]:
    """Events with a sequence greater than `after`, ascending; all of them where `limit` is None."""
    query = (
        select(*_STORED)
        .where(events.c.execution_id == execution_id, events.c.sequence > after)
        .order_by(events.c.sequence)
    )
    if limit is not None:
        query = query.limit(limit)
    return [StoredEvent(*row[:-1], row[-1] or FIRST_LOG_FORMAT) for row in connection.execute(query)]


def read_messages(connection: Connection, execution_id: str, until: int) -> list[StoredEvent]:
    """What people said to the execution, and decided, up to a sequence, ascending."""
    query = (
        select(*_STORED)
        .where(
            events.c.execution_id == execution_id,
            events.c.sequence <= until,
            events.c.type.in_(("message.received", "input.resolved", "grant.revoked")),
        )
        .order_by(events.c.sequence)
    )
    return [StoredEvent(*row[:-1], row[-1] or FIRST_LOG_FORMAT) for row in connection.execute(query)]


def insert_first_event(connection: Connection, state: ExecutionState, first: NewEvent) -> StoredEvent:
    """Write a new execution with the first event of its log."""
    stored = StoredEvent(1, state.created_at, None, first.event.type, first.body)
    connection.execute(executions.insert(), _execution_row(state, first))
    connection.execute(events.insert(), _event_row(state.execution_id, stored, None))
    _insert_references(connection, {(state.execution_id, sha256) for sha256 in first.blobs})
    indexes = LogIndexes()
    indexes.note(state, 1, first.event, state.created_at)
    indexes.write(connection)
    return stored


def insert_further_events(
    connection: Connection, state: ExecutionState, following: Sequence[NewEvent], clock: SteadyClock
) -> tuple[ExecutionState, list[StoredEvent]]:
    """Write events of the server's own behind the first, in the transaction that begins the execution.

    Raises:
        IllegalMove: one of them cannot follow.
    """
    at = Moment(state.created_at, clock.now())
    after = advance(state, [new.event for new in following], at)
    stored = [
        StoredEvent(sequence, state.created_at, None, new.event.type, new.body)
        for sequence, new in enumerate(following, start=state.last_sequence + 1)
    ]
    if stored:
        connection.execute(_insert_events, [_event_row(state.execution_id, each, None) for each in stored])
        connection.execute(_update_state, [_update_row(after)])
        _index_search(connection, after, stored, following)
    _insert_references(
        connection, {(state.execution_id, sha256) for new in following for sha256 in new.blobs}
    )
    return after, stored


def insert_log(
    connection: Connection,
    state: ExecutionState,
    stored: Sequence[StoredEvent],
    new_events: Sequence[NewEvent],
) -> None:
    """Write an execution that has ended, with its whole log. What it cost was paid elsewhere."""
    connection.execute(executions.insert(), _execution_row(state, new_events[0]))
    connection.execute(_insert_events, [_event_row(state.execution_id, event, None) for event in stored])
    _index_search(connection, state, stored, new_events)
    _insert_references(
        connection, {(state.execution_id, sha256) for new in new_events for sha256 in new.blobs}
    )


def _index_search(
    connection: Connection,
    state: ExecutionState,
    stored: Sequence[StoredEvent],
    new_events: Sequence[NewEvent],
) -> None:
    rows = SearchRows()
    for each, new in zip(stored, new_events, strict=True):
        rows.note(state, each.sequence, new.event)
    rows.write(connection)


def _insert_references(connection: Connection, found: set[tuple[str, str]]) -> None:
    rows = [{"execution_id": execution_id, "sha256": sha256} for execution_id, sha256 in sorted(found)]
    insert_all_where_absent(connection, blob_references, rows)


def _write_group(connection: Connection, group: list[_Append], clock: SteadyClock) -> None:
    now = Moment(datetime.now(UTC), clock.now())
    tables = _load_group(connection, group, now.wall)
    for append in group:
        try:
            append.outcome = _decide(connection, append, tables, now)
        except CallRefused as refusal:
            append.outcome = refusal
    if tables.rows:
        connection.execute(_insert_events, tables.rows)
        _insert_references(connection, tables.blobs)
        grant_to_sessions(connection, tables.grants)
        for session_id, sha256s in sorted(tables.files.items()):
            grant_files_to_session(connection, sha256s, session_id)
    if tables.changed:
        connection.execute(_update_state, [_update_row(tables.states[key]) for key in sorted(tables.changed)])
    tables.costs.write(connection)
    tables.indexes.write(connection)


def _load_group(connection: Connection, group: list[_Append], now: datetime) -> _Group:
    execution_ids = sorted({append.execution_id for append in group})
    rows = connection.execute(_select_states, {"execution_ids": execution_ids})
    states = {row.execution_id: ExecutionState.from_row(row) for row in rows}
    append_ids = [append.append_id for append in group if append.append_id is not None]
    seen: dict[tuple[str, str], int] = {}
    if append_ids:
        found = connection.execute(_select_seen, {"execution_ids": execution_ids, "append_ids": append_ids})
        seen = {(execution_id, append_id): sequence for execution_id, append_id, sequence in found}
    limited = [state.token_id for state in states.values() if state.token_id is not None]
    return _Group(states, seen, costs=DailyCosts.load(connection, limited, now))


def _decide(connection: Connection, append: _Append, group: _Group, now: Moment) -> Appended:
    state = group.states.get(append.execution_id)
    if state is None:
        raise NotFound("execution", append.execution_id)
    if append.append_id is not None:
        repeated = group.seen.get((append.execution_id, append.append_id))
        if repeated is not None:
            return Appended(state, (), repeated)
    change = append.decide(state)
    if append.check is not None and change.new_events:
        append.check(connection)
    change = _with_inputs_ended(change)
    following = advance(change.state, [new.event for new in change.new_events], now)
    if state.token_id is not None:
        excess = group.costs.charge(state.token_id, [new.event for new in change.new_events])
        if excess is not None and not following.phase.is_terminal:
            ending = replace(NewEvent.of(excess), is_servers=True)
            change = _with_inputs_ended(replace(change, new_events=[*change.new_events, ending]))
            following = advance(change.state, [new.event for new in change.new_events], now)
    stored = [
        StoredEvent(sequence, now.wall, None if new.is_servers else change.attempt, new.event.type, new.body)
        for sequence, new in enumerate(change.new_events, start=state.last_sequence + 1)
    ]
    for sequence, new in enumerate(change.new_events, start=state.last_sequence + 1):
        group.indexes.note(state, sequence, new.event, now.wall)
    if following != state:
        group.states[append.execution_id] = following
        group.changed.add(append.execution_id)
    group.rows.extend(_event_row(append.execution_id, event, append.append_id) for event in stored)
    for new in change.new_events:
        group.blobs.update((append.execution_id, sha256) for sha256 in new.blobs)
        if isinstance(new.event, SnapshotTaken):
            group.files.setdefault(state.session_id, set()).update(new.blobs)
    group.grants.update((sha256, state.session_id) for sha256 in change.brought)
    if append.append_id is not None:
        group.seen[append.execution_id, append.append_id] = following.last_sequence
    return Appended(following, stored, following.last_sequence)


def _with_inputs_ended(change: Change) -> Change:
    """With the events by which an execution that ends resolves what it still asks of people."""
    if not change.new_events or not isinstance(change.new_events[-1].event, TerminalEvent):
        return change
    asked = {each.input_id for each in change.state.open_inputs}
    for new in change.new_events:
        if isinstance(new.event, InputRequested):
            asked.add(new.event.input_id)
        elif isinstance(new.event, InputResolved):
            asked.discard(new.event.input_id)
    ended = [
        NewEvent.of(InputResolved(input_id=input_id, outcome=InputOutcome.CANCELLED), is_servers=True)
        for input_id in sorted(asked)
    ]
    return replace(change, new_events=[*change.new_events[:-1], *ended, change.new_events[-1]])


def _execution_row(state: ExecutionState, first: NewEvent) -> dict[str, object]:
    """A new execution, with what only its first event tells."""
    fork = first.event.fork if isinstance(first.event, ExecutionStarted) else None
    row: dict[str, object] = state.to_row()
    return row | {"is_rewind": fork is not None and fork.in_place}


def _event_row(execution_id: str, stored: StoredEvent, append_id: str | None) -> dict[str, object]:
    return {
        "execution_id": execution_id,
        "sequence": stored.sequence,
        "recorded_at": stored.recorded_at,
        "attempt": stored.attempt,
        "append_id": append_id,
        "type": stored.type,
        "body": stored.body,
        "format": stored.format,
    }


def _update_row(state: ExecutionState) -> dict[str, object]:
    row = state.to_row()
    changes: dict[str, object] = {f"new_{name}": row[name] for name in CHANGING_COLUMNS}
    return changes | {"key": state.execution_id}
