"""Ends executions: on somebody's wish, and where nobody else would.

A runner that has one in hand ends it itself; what is written here is for all others.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from pydantic import JsonValue, TypeAdapter

from stigmer_contract.api import ExecutionResource
from stigmer_contract.events import BlobPayload, Event, ExecutionCancelled, Payload
from stigmer_contract.phases import ExecutionPhase
from stigmer_server.blobs import BlobStore
from stigmer_server.database import Database
from stigmer_server.errors import ExecutionEnded
from stigmer_server.event_log import Appended, Change, EventLog, NewEvent
from stigmer_server.execution_state import ExecutionState
from stigmer_server.open_calls import endings_of_open_calls

_JSON: Final[TypeAdapter[JsonValue]] = TypeAdapter(JsonValue)


class Endings:
    """The ends of executions."""

    def __init__(
        self, database: Database, log: EventLog, blobs: BlobStore, on_cancel: Callable[[str], None]
    ) -> None:
        """`on_cancel` is told after the commit, and must not block."""
        self._database = database
        self._log = log
        self._blobs = blobs
        self._on_cancel = on_cancel

    async def request_cancel(self, seen: ExecutionState, reason: str | None) -> ExecutionResource:
        """Ask for the execution to stop. One that no runner has in hand, or ever had, is over at once.

        Raises:
            ExecutionEnded: there is nothing to stop; cancelling a cancelled execution again is fine.
        """

        def decide(state: ExecutionState) -> tuple[ExecutionState, Event | None]:
            if state.phase is ExecutionPhase.CANCELLED:
                return state, None
            if state.phase.is_terminal:
                raise ExecutionEnded(state.execution_id, state.phase)
            if state.cancel_requested_at is None:
                state = replace(state, cancel_requested_at=datetime.now(UTC), cancel_reason=reason)
            is_idle = state.attempt == 0 or state.phase is ExecutionPhase.WAITING
            return state, ExecutionCancelled(reason=state.cancel_reason) if is_idle else None

        appended = await self._append(seen.execution_id, decide)
        if appended.stored or not appended.state.phase.is_terminal:
            self._on_cancel(seen.execution_id)
        return appended.state.to_resource()

    async def end(self, seen: ExecutionState, event: Event) -> ExecutionState:
        """End an execution for which nobody else would, unless something happened since it was `seen`."""

        def decide(state: ExecutionState) -> tuple[ExecutionState, Event | None]:
            is_as_seen = not state.phase.is_terminal and state.attempt == seen.attempt
            return state, event if is_as_seen else None

        return (await self._append(seen.execution_id, decide)).state

    async def _append(
        self, execution_id: str, decide: Callable[[ExecutionState], tuple[ExecutionState, Event | None]]
    ) -> Appended:
        """Append the event by which the execution ends, if any, behind what becomes of its open calls."""
        calls: list[NewEvent] = []
        read_until = [0]
        is_to_read = [False]

        def change(state: ExecutionState) -> Change:
            following, event = decide(state)
            is_to_read[0] = isinstance(event, ExecutionCancelled) and state.last_sequence != read_until[0]
            if event is None:
                return Change(following)
            if is_to_read[0]:
                return Change(state)
            # One that failed may be retried, and goes on with its calls.
            return Change(following, [*calls, NewEvent.of(event)])

        while True:
            appended = await self._log.append(execution_id, change)
            if not is_to_read[0]:
                return appended
            read_until[0] = appended.last_sequence
            calls = await self._database.read(
                lambda connection: [
                    NewEvent.of(ending, is_servers=True)
                    for ending in endings_of_open_calls(connection, execution_id, self._load)
                ]
            )

    def _load(self, payload: Payload) -> JsonValue:
        if isinstance(payload, BlobPayload):
            return _JSON.validate_json(self._blobs.find(payload.sha256).read_bytes())
        return payload.value
