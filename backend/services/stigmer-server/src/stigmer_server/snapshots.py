"""Finds which snapshots the logs of a session name. Reads no snapshot."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from stigmer_contract.events import (
    EVENT_ADAPTER,
    BlobPayload,
    ExecutionStarted,
    ForkOrigin,
    RecordedEvent,
    SnapshotSkipped,
    SnapshotTaken,
    ToolStarted,
)
from stigmer_server.execution_state import ExecutionState
from stigmer_server.session_history import find_origin
from stigmer_server.tables import events, executions

_TAKEN = "snapshot.taken"


def newest_listing(connection: Connection, state: ExecutionState) -> BlobPayload | None:
    """The newest that the session's log names, as it stood at `state`, else the one that a fork began with;
    None: there is none.

    One log after the other, backwards: what is looked for stands near its end.
    """
    logs = (
        select(executions.c.execution_id)
        .where(executions.c.session_id == state.session_id, executions.c.place <= state.place)
        .order_by(executions.c.place.desc())
    )
    for execution_id in connection.execute(logs).scalars():
        newest = (
            select(events.c.body)
            .where(events.c.execution_id == execution_id, events.c.type == _TAKEN)
            .order_by(events.c.sequence.desc())
            .limit(1)
        )
        if execution_id == state.execution_id:
            newest = newest.where(events.c.sequence <= state.last_sequence)
        body = connection.execute(newest).scalar()
        if body is not None:
            taken = EVENT_ADAPTER.validate_json(body)
            assert isinstance(taken, SnapshotTaken)
            return taken.listing
    origin = find_origin(connection, state.session_id)
    return None if origin is None else origin.snapshot


@dataclass(frozen=True)
class FilesAt:
    """What is known of the files at a moment: exactly one of both."""

    listing: BlobPayload | None
    none_because: str | None


def files_at(
    connection: Connection, state: ExecutionState, log: Sequence[RecordedEvent], until: int
) -> FilesAt:
    """The files as they were when the log stood at event `until`, after the step that ended there.

    That is the first snapshot behind the last step with side effects up to there, and before the next such
    step began: those between change nothing. `log` is the execution's, whole.
    """
    first = log[0].event
    if isinstance(first, ExecutionStarted) and first.fork is not None and first.fork.in_place:
        return _files_of_rewind(first.fork, log, until)
    changes = [each for each in log if isinstance(each.event, ToolStarted) and each.event.side_effects]
    before = [each.sequence for each in changes if each.sequence < until]
    after = [each.sequence for each in changes if each.sequence >= until]
    end = after[0] if after else None
    for recorded in log:
        event, sequence = recorded.event, recorded.sequence
        if sequence < (before[-1] if before else 0) or (end is not None and sequence > end):
            continue
        if isinstance(event, SnapshotTaken):
            if before and not _is_after(event, log, before[-1]):
                continue
            return FilesAt(event.listing, None)
        if isinstance(event, SnapshotSkipped):
            return FilesAt(None, f"no snapshot could be taken then: {event.reason}")
    if before:
        return FilesAt(None, "no snapshot was taken between that step and the next that may change files")
    earlier = replace(state, last_sequence=1)
    listing = newest_listing(connection, earlier)
    if listing is None:
        return FilesAt(None, "no snapshots were taken up to there")
    return FilesAt(listing, None)


def _files_of_rewind(origin: ForkOrigin, log: Sequence[RecordedEvent], until: int) -> FilesAt:
    """It has no steps of its own: before it, the files were what it has kept first."""
    if until:
        return FilesAt(origin.snapshot, origin.no_files_because)
    kept = next((each.event for each in log if isinstance(each.event, SnapshotTaken)), None)
    if kept is None:
        return FilesAt(None, "it has changed no files")
    return FilesAt(kept.listing, None)


def _is_after(taken: SnapshotTaken, log: Sequence[RecordedEvent], began: int) -> bool:
    """Whether the snapshot is of after the step that began there, not of right before it."""
    [started] = [each.event for each in log if each.sequence == began]
    assert isinstance(started, ToolStarted)
    return taken.call_id is None or (taken.turn, taken.call_id) == (started.turn, started.call_id)
