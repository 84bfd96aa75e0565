"""Placements: task queues with a runner of their own, for one workspace directory each.

The server decides which executions work where, and tells whoever starts runners which placements have work to
do; it starts none itself. An execution whose placement can have no runner ends here, with the reason.
"""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, and_, or_, select

from stigmer_contract.api import (
    PlacementList,
    PlacementPhase,
    PlacementReport,
    PlacementReported,
    PlacementResource,
)
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import ExecutionFailed
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.placements import placement_id_of
from stigmer_contract.waits import WAKING_EVENT_TYPES
from stigmer_server.database import Database
from stigmer_server.errors import InvalidRequest, NotFound
from stigmer_server.event_log import Change, EventLog, NewEvent, StoredEvent
from stigmer_server.execution_state import ExecutionState
from stigmer_server.standing_still import StandingStill
from stigmer_server.tables import executions, sessions

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often a caller that waits is looked for by itself: times come, and other servers write."""
MAX_WAIT_SECONDS: Final = 30.0
_MOVING: Final = (ExecutionPhase.PENDING, ExecutionPhase.IN_PROGRESS)


class Placements:
    """The placements that have work to do."""

    def __init__(self, database: Database, log: EventLog, standing_still: StandingStill) -> None:
        self._database = database
        self._log = log
        self._standing_still = standing_still
        self._changed = asyncio.Event()
        self._is_closed = False

    def close(self) -> None:
        """Answer whoever waits, who would keep the process from stopping."""
        self._is_closed = True
        self._changed.set()

    def observe(self, state: ExecutionState, stored: Sequence[StoredEvent] = ()) -> None:
        """Note that an execution was made or went on, which may give a placement work, or take it away."""
        if state.leg_task_queue is None:
            return
        is_moving = state.phase is ExecutionPhase.IN_PROGRESS
        if not is_moving or any(event.type in WAKING_EVENT_TYPES for event in stored):
            self._changed.set()

    async def follow(self, known_version: str | None, wait_seconds: float) -> PlacementList:
        """The placements with work to do: as soon as they are others than those of the known version.

        Raises:
            Unavailable: the database does not answer.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + min(wait_seconds, MAX_WAIT_SECONDS)
        while True:
            self._changed.clear()
            found = _listed(await self._database.read(_find_busy))
            left = end - loop.time()
            if found.version != known_version or left <= 0 or self._is_closed:
                return found
            try:
                async with asyncio.timeout(min(left, LOOK_SECONDS)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def report(self, placement_id: str, report: PlacementReport) -> PlacementReported:
        """Take down how a placement's runner stands; where it has failed, end those who wait for it.

        Raises:
            InvalidRequest: it says no reason.
            NotFound: the placement has no work to do.
            Unavailable: the database does not answer.
        """
        if report.reason is None and report.phase is not PlacementPhase.READY:
            raise InvalidRequest(f"a report of the phase {report.phase.value!r} needs a reason")
        states = [
            state
            for state, workspace in await self._database.read(_find_moving)
            if placement_id_of(workspace) == placement_id
        ]
        if not states:
            raise NotFound("placement with work to do", placement_id)
        queue = states[0].leg_task_queue or ""
        if report.phase is PlacementPhase.FAILED:
            ended = [state for state in states if state.leg_runner is None]
            for state in ended:
                await self._end(state, report)
            self._standing_still.note_placement(queue, None)
            return PlacementReported(execution_ids=[state.execution_id for state in ended])
        self._standing_still.note_placement(queue, report.reason)
        return PlacementReported(execution_ids=[])

    async def _end(self, seen: ExecutionState, report: PlacementReport) -> None:
        event = ExecutionFailed(
            code=ErrorCode.WORKSPACE_UNAVAILABLE, message=report.reason or "", hint=report.hint
        )

        def decide(state: ExecutionState) -> Change:
            if state.phase.is_terminal or state.attempt != seen.attempt or state.leg_runner is not None:
                return Change(state)
            return Change(state, [NewEvent.of(event)])

        await self._log.append(seen.execution_id, decide)
        logger.info("ended: its workspace cannot be used", extra={"execution_id": seen.execution_id})


def _find_moving(connection: Connection) -> list[tuple[ExecutionState, str]]:
    """Executions that are to get on, and have a placement; each with its workspace."""
    is_due = and_(executions.c.phase == ExecutionPhase.WAITING, executions.c.wake_at <= datetime.now(UTC))
    query = (
        select(executions, sessions.c.workspace)
        .join(sessions, sessions.c.session_id == executions.c.session_id)
        .where(executions.c.leg_task_queue.is_not(None), or_(executions.c.phase.in_(_MOVING), is_due))
    )
    return [(ExecutionState.from_row(row), row.workspace) for row in connection.execute(query)]


def _find_busy(connection: Connection) -> list[PlacementResource]:
    found = dict[str, PlacementResource]()
    for state, workspace in _find_moving(connection):
        placement_id = placement_id_of(workspace)
        earlier = found.get(placement_id)
        found[placement_id] = PlacementResource(
            placement_id=placement_id,
            task_queue=state.leg_task_queue or "",
            workspace=workspace,
            executions=1 if earlier is None else earlier.executions + 1,
        )
    return [found[placement_id] for placement_id in sorted(found)]


def _listed(placements: list[PlacementResource]) -> PlacementList:
    listed = PlacementList(placements=placements, version="")
    version = hashlib.sha256(listed.model_dump_json().encode()).hexdigest()[:16]
    return listed.model_copy(update={"version": version})
