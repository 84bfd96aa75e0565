"""Why executions stand still: nobody polls their queue, every runner is busy, or their workflow's tasks fail.

Temporal is asked about one execution; of many is told what the reconciler found last.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select

from stigmer_contract.phases import ExecutionPhase
from stigmer_server.database import Database
from stigmer_server.errors import TemporalUnavailable
from stigmer_server.execution_state import ExecutionState
from stigmer_server.installation import Installation
from stigmer_server.runner_presence import RunnerPresence
from stigmer_server.standing_still import StandingStill
from stigmer_server.tables import executions
from stigmer_server.temporal_client import TemporalClient, WorkflowCondition, WorkflowView

USUAL_WAIT: Final = timedelta(seconds=2)
"""A runner that has a slot takes an execution in hundredths of a second."""
SILENCE: Final = timedelta(seconds=5)
"""Of a runner that has an execution in hand; a long command is silent for longer, which Temporal tells."""
COUNT_LIFETIME_SECONDS: Final = 1.0
NOT_TAKEN: Final = "no runner has taken it yet"

_MOVING: Final = (ExecutionPhase.PENDING, ExecutionPhase.IN_PROGRESS)


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why an execution does not get on; None: it does, as far as is known."""

    pending: str | None = None
    """While it is pending."""
    standing: str | None = None


class StandingReasons:
    """Finds the reasons."""

    def __init__(
        self,
        database: Database,
        temporal: TemporalClient,
        installation: Installation,
        presence: RunnerPresence,
        noted: StandingStill,
    ) -> None:
        """`noted` is what the reconciler found."""
        self._database = database
        self._temporal = temporal
        self._installation = installation
        self._presence = presence
        self._noted = noted
        self._count_lock = asyncio.Lock()
        self._counted_at = -COUNT_LIFETIME_SECONDS
        self._in_hand: dict[str | None, int] = {}

    async def find(self, states: Sequence[ExecutionState]) -> list[Reasons]:
        """Of many executions, in their order."""
        return [self._reasons(state, await self._find_pending(state)) for state in states]

    async def find_one(self, state: ExecutionState) -> Reasons:
        """Of one execution, as it stands now."""
        pending = await self._find_pending(state)
        if state.phase in _MOVING and await self._is_silent(state):
            try:
                view = await self._temporal.look_at_workflow(state.workflow)
                self._noted.note(state.execution_id, await self.find_standing(state, view))
            except TemporalUnavailable as error:
                self._noted.note(state.execution_id, str(error))
        return self._reasons(state, pending)

    def _reasons(self, state: ExecutionState, pending: str | None) -> Reasons:
        """With what is noted, and with what keeps the runner of the execution's placement."""
        if state.phase.is_terminal:
            return Reasons()
        placed = None
        if state.leg_task_queue is not None and state.leg_runner is None:
            placed = self._noted.reason_of_placement(state.leg_task_queue)
        if state.phase is ExecutionPhase.PENDING:
            return Reasons(pending or placed, self._noted.reason_of(state.execution_id))
        if state.phase is ExecutionPhase.IN_PROGRESS:
            return Reasons(None, placed or self._noted.reason_of(state.execution_id))
        return Reasons(None, self._noted.reason_of(state.execution_id))

    async def find_standing(self, state: ExecutionState, view: WorkflowView) -> str | None:
        """Why an execution does not get on whose workflow stands like that."""
        waits = view.queued_for is not None and view.queued_for > USUAL_WAIT
        if view.problem is not None or state.phase is not ExecutionPhase.IN_PROGRESS or not waits:
            return view.problem
        if view.condition is not WorkflowCondition.QUEUED:
            return None
        return await self._find_queue_problem(state) or await self._find_busy(state) or NOT_TAKEN

    async def _find_pending(self, state: ExecutionState) -> str | None:
        if state.phase is not ExecutionPhase.PENDING:
            return None
        problem = await self._find_queue_problem(state)
        # An execution with a placement waits for its own runner, whatever others are busy with.
        is_late = datetime.now(UTC) - state.created_at > USUAL_WAIT
        if problem is None and is_late and state.leg_task_queue is None:
            return await self._find_busy(state)
        return problem

    async def _find_queue_problem(self, state: ExecutionState) -> str | None:
        nameless = self._installation.nameless_task_queue
        own, known = state.task_queue or nameless, self._installation.task_queues
        # What is on one of the installation's own is moved to another that is polled.
        return await self._temporal.find_queue_problem([own, *known] if own in (nameless, *known) else [own])

    async def _find_busy(self, state: ExecutionState) -> str | None:
        """Whether runners that poll the execution's queue have others in hand."""
        queue = state.leg_task_queue or state.task_queue
        in_hand = await self._count_in_hand(queue) - (state.leg_runner is not None)
        if in_hand <= 0:
            return None
        others = "another execution" if in_hand == 1 else f"{in_hand} others"
        return f"every slot of the runners is taken: they have {others} in hand"

    async def _count_in_hand(self, task_queue: str | None) -> int:
        queue = func.coalesce(executions.c.leg_task_queue, executions.c.task_queue)
        query = (
            select(queue, func.count())
            .where(executions.c.phase == ExecutionPhase.IN_PROGRESS, executions.c.leg_runner.is_not(None))
            .group_by(queue)
        )

        def work(connection: Connection) -> dict[str | None, int]:
            return {row[0]: row[1] for row in connection.execute(query)}

        async with self._count_lock:
            if time.monotonic() - self._counted_at >= COUNT_LIFETIME_SECONDS:
                self._in_hand = await self._database.read(work)
                self._counted_at = time.monotonic()
        return self._in_hand.get(task_queue, 0)

    async def _is_silent(self, state: ExecutionState) -> bool:
        """Whether a runner that works on the execution would have been heard of."""
        now = datetime.now(UTC)
        if state.phase is ExecutionPhase.PENDING:
            return now - state.created_at > SILENCE
        if state.leg_runner is None:
            return True
        heard = (await self._presence.find([state.leg_runner])).get(state.leg_runner)
        return heard is None or now - heard > SILENCE
