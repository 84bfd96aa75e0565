"""Keeps workflows and logs in step: starts what is not started, ends in the log what nobody would end.

Runs at the start, at an interval, whenever an execution is made or cancelled, and as soon as Temporal is
back. Every act is checked again inside the log's transaction, so doing it twice changes nothing.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, assert_never

from sqlalchemy import Connection, and_, or_, select

from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import ExecutionCancelled, ExecutionFailed
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.waits import WAKING_EVENT_TYPES
from stigmer_server.audit import AuditTrail
from stigmer_server.database import Database
from stigmer_server.endings import Endings
from stigmer_server.errors import ServerError, TemporalUnavailable
from stigmer_server.event_log import StoredEvent
from stigmer_server.execution_state import ExecutionState
from stigmer_server.executions import Executions
from stigmer_server.idempotency import delete_expired_keys
from stigmer_server.installation import Installation
from stigmer_server.sessions import UNENDED_PHASES
from stigmer_server.standing_reasons import StandingReasons
from stigmer_server.standing_still import StandingStill
from stigmer_server.tables import executions, sessions
from stigmer_server.temporal_client import (
    OPEN_CONDITIONS,
    TemporalClient,
    WorkflowCondition,
    WorkflowView,
)

logger = logging.getLogger(__name__)

AWAY_INTERVAL_SECONDS: Final = 0.5
"""How often Temporal is looked for while it is away; a refused connection costs next to nothing."""
DURATION_GRACE: Final = timedelta(seconds=30)
"""The runner enforces `limits.duration`; only when it has not done so for this long the server does."""
CANCEL_GRACE: Final = timedelta(seconds=2)
"""A runner that is there reacts to a cancellation within milliseconds."""
CANCEL_LOOKS_SECONDS: Final = (0.2, 0.5, 1.0, 1.0, 2.0, 4.0, 8.0)
"""After a cancellation the execution is looked at in these steps; then at the interval."""
MAX_CONCURRENT_LOOKS: Final = 16
FIRST_LEG_GRACE: Final = timedelta(seconds=5)
"""An execution that is not taken for this long may have a workflow that cannot get on."""
DUE_GRACE: Final = timedelta(seconds=5)
"""A workflow's own timer wakes it; only when that has not happened for this long the server does."""
WAITING_LOOKS: Final = 20
"""So many of the executions that wait for something are looked at each round, taking turns: there may be
thousands, and nothing is due. A workflow that was lost is noticed all the same."""

MOVING_PHASES: Final = (ExecutionPhase.PENDING, ExecutionPhase.IN_PROGRESS)


class Reconciler:
    """The loop, and what is done at once for single executions."""

    def __init__(
        self,
        database: Database,
        temporal: TemporalClient,
        audit: AuditTrail,
        standing: StandingReasons,
        noted: StandingStill,
        installation: Installation,
        interval_seconds: float,
    ) -> None:
        self._standing = standing
        self._noted = noted
        self._installation = installation
        self._waiting_looked_at = ""
        self._all_are_placed = False
        self._database = database
        self._audit = audit
        self._temporal = temporal
        self._interval_seconds = interval_seconds
        self._looks = asyncio.Semaphore(MAX_CONCURRENT_LOOKS)
        self._temporal_is_away = False
        self._away = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: set[str] = set()
        """Executions whose workflow is just being started: that there is none yet says nothing."""
        self._executions: Executions | None = None
        self._endings: Endings | None = None

    def attach(self, executions_: Executions, endings: Endings) -> None:
        """Name the executions to keep in step, and what ends them; must come before anything else."""
        self._executions, self._endings = executions_, endings

    def start_soon(self, state: ExecutionState) -> None:
        """Start the workflow of a new execution."""
        self._starting.add(state.execution_id)
        self._spawn(self._start(state), f"start {state.execution_id}")

    def cancel_soon(self, execution_id: str) -> None:
        """Make sure that an execution ends, whose cancellation was asked for."""
        self._spawn(self._follow_cancellation(execution_id), f"cancel {execution_id}")

    def begin_again_soon(self, state: ExecutionState) -> None:
        """Start the workflow anew of an execution that had failed and is to go on."""
        self._starting.add(state.execution_id)
        self._spawn(self._begin_again(state), f"begin {state.execution_id} again")

    def observe(self, state: ExecutionState, stored: Sequence[StoredEvent]) -> None:
        """Wake the workflow of an execution for which something has come that it waits for."""
        is_due = state.phase is ExecutionPhase.IN_PROGRESS and state.wake_at is not None
        if is_due and any(event.type in WAKING_EVENT_TYPES for event in stored):
            self.wake_soon(state)

    def wake_soon(self, state: ExecutionState) -> None:
        """Tell a workflow to look at the log. Where that fails, the next round does it again."""
        self._spawn(self._wake(state), f"wake {state.execution_id}")

    async def run(self) -> None:
        """Reconcile for ever: at the interval, and as soon as Temporal is back."""
        while True:
            try:
                await self.reconcile()
            except ServerError as error:
                logger.warning("could not reconcile: %s", error)
            except Exception:
                logger.exception("could not reconcile")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_seconds):
                    await self._wait_until_back()

    async def _wait_until_back(self) -> None:
        """Wait until Temporal has been away, and is there again."""
        if not self._temporal_is_away:
            await self._away.wait()
        self._away.clear()
        while True:
            await asyncio.sleep(AWAY_INTERVAL_SECONDS)
            if await self._find_problem() is None:
                return

    async def stop(self) -> None:
        """Drop what is in hand; the next start of a server takes it up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def reconcile(self) -> None:
        """Look at every execution that is to get on; forget what is kept for a time only."""
        await self._find_problem()
        if not (self._all_are_placed or self._temporal_is_away):
            await self._place_anew()
            self._all_are_placed = True
        states = await self._database.read(_load_moving)
        states += await self._take_turn_of_waiting()
        await asyncio.gather(*(self._look(state) for state in states))
        await self._database.write(delete_expired_keys)
        await self._audit.delete_expired()

    async def _place_anew(self) -> None:
        """Let executions work where this server would place them, which its settings may have changed.

        Raises:
            TemporalUnavailable: Temporal does not answer; those that are left keep their place.
        """
        assert self._executions is not None
        for state, workspace in await self._database.read(_load_unended_with_workspace):
            wanted = self._installation.placement_of(workspace)
            if state.leg_task_queue == wanted:
                continue
            placed = replace(state, leg_task_queue=wanted)
            # Before it is written down, so that a failure between the two is mended at the next start.
            await self._temporal.start_workflow(placed.workflow, replacing=True)
            await self._executions.place(state.execution_id, wanted)
            logger.info("legs run on %s", wanted, extra={"execution_id": state.execution_id})

    async def _take_turn_of_waiting(self) -> list[ExecutionState]:
        after = self._waiting_looked_at
        states = await self._database.read(lambda connection: _load_waiting(connection, after))
        # From the first one again, where these were the last.
        self._waiting_looked_at = states[-1].execution_id if len(states) == WAITING_LOOKS else ""
        return states

    async def _find_problem(self) -> str | None:
        problem = await self._temporal.find_problem()
        if problem is not None and not self._temporal_is_away:
            logger.warning("%s", problem)
        elif problem is None and self._temporal_is_away:
            logger.info("Temporal is reachable")
        self._temporal_is_away = problem is not None
        return problem

    async def _look(self, state: ExecutionState) -> None:
        async with self._looks:
            try:
                if _is_overdue(state, self._installation.steady_clock.now()):
                    await self._end_overdue(state)
                elif not self._temporal_is_away:
                    await self._look_at_workflow(state)
            except TemporalUnavailable as error:
                self._noted.note(state.execution_id, None)
                self._note_away(error)
            except ServerError as error:
                logger.warning("could not reconcile: %s", error, extra={"execution_id": state.execution_id})

    async def _look_at_workflow(self, state: ExecutionState) -> None:
        if state.execution_id in self._starting:
            return
        # Starting a workflow that is there changes nothing; and what never ran cannot run twice.
        is_new = datetime.now(UTC) - state.created_at < FIRST_LEG_GRACE
        if state.attempt == 0 and await self._temporal.start_workflow(state.workflow) and is_new:
            return
        view = await self._temporal.look_at_workflow(state.workflow)
        self._noted.note(state.execution_id, await self._standing.find_standing(state, view))
        match view.condition:
            case WorkflowCondition.RUNNING_LEG:
                await self._pass_cancellation_on(state)
            case WorkflowCondition.QUEUED | WorkflowCondition.OPEN if state.cancel_requested_at is not None:
                await self._end_abandoned_cancellation(state, state.cancel_requested_at)
            case WorkflowCondition.QUEUED:
                await self._move_to_runners(state, view)
            case WorkflowCondition.OPEN:
                await self._wake_due(state)
            case WorkflowCondition.CANCELLED | WorkflowCondition.TERMINATED if state.begins_again:
                await self._go_on_with(state, view)
            case WorkflowCondition.CANCELLED:
                await self._end(state, ExecutionCancelled(reason=state.cancel_reason))
            case WorkflowCondition.TERMINATED:
                await self._end_terminated(state)
            case WorkflowCondition.CLOSED | WorkflowCondition.NOT_FOUND:
                await self._go_on_with(state, view)
            case _:
                assert_never(view.condition)

    async def _pass_cancellation_on(self, state: ExecutionState) -> None:
        if state.cancel_requested_at is not None:
            await self._temporal.cancel_workflow(state.workflow)

    async def _move_to_runners(self, state: ExecutionState, view: WorkflowView) -> None:
        """Start the workflow anew on a task queue that runners poll, where none polls its own any more.

        Its history stays behind, and nothing is lost with it: the log tells the next leg how things stand. So
        executions go on with older runners alone, and those of 0.1.0 with newer ones.
        """
        queues = self._installation.task_queues
        nameless = self._installation.nameless_task_queue
        own = state.task_queue or nameless
        # Runners of 0.1.0 get no leg of this server.
        wanted = await self._temporal.find_polled_queue(queues if own == nameless else [own, *queues])
        if wanted is None or wanted == view.task_queue:
            return
        assert self._executions is not None
        moved = await self._executions.move(state.execution_id, wanted)
        if not moved.phase.is_terminal:
            await self._temporal.start_workflow(moved.workflow, replacing=True)
            logger.info(
                "workflow moved from task queue %s to %s",
                view.task_queue,
                wanted,
                extra={"execution_id": state.execution_id},
            )

    async def _wake_due(self, state: ExecutionState) -> None:
        """Signal a workflow again that waits though the log says that the execution is to get on."""
        if state.phase is not ExecutionPhase.WAITING or _is_due(state):
            await self._temporal.signal_workflow(state.workflow)

    async def _end_abandoned_cancellation(self, state: ExecutionState, requested_at: datetime) -> None:
        """End an execution that is to be cancelled while no runner has it in hand."""
        await self._temporal.cancel_workflow(state.workflow)
        if datetime.now(UTC) - requested_at >= CANCEL_GRACE:
            await self._end(state, ExecutionCancelled(reason=state.cancel_reason))
            await self._temporal.terminate_workflow(state.workflow, "cancelled while no runner had it")

    async def _end_terminated(self, state: ExecutionState) -> None:
        """End what a person ended at Temporal: an execution of which nobody else wants to know any more."""
        if state.cancel_requested_at is not None:
            await self._end(state, ExecutionCancelled(reason=state.cancel_reason))
            return
        event = ExecutionFailed(
            code=ErrorCode.WORKFLOW_LOST,
            message=(
                f"could not go on with execution {state.execution_id!r}: "
                "somebody terminated its Temporal workflow"
            ),
            hint="start a new execution in the same session",
        )
        await self._end(state, event)

    async def _go_on_with(self, state: ExecutionState, view: WorkflowView) -> None:
        """Start the workflow anew of an execution that goes on, by its log: Temporal lost it, or its end.

        That happens where Temporal's database is older than the log (a power cut, a restored copy), or gone.
        """
        if state.cancel_requested_at is not None:
            await self._end(state, ExecutionCancelled(reason=state.cancel_reason))
            return
        assert self._executions is not None
        # It may have ended since it was read, and its workflow rightly with it.
        state = await self._executions.load(state.execution_id)
        if not state.phase.is_terminal:
            await self._temporal.start_workflow(state.workflow, anew=True)
            logger.warning(
                "workflow started anew, which was: %s",
                view.detail,
                extra={"execution_id": state.execution_id},
            )

    async def _end_overdue(self, state: ExecutionState) -> None:
        event = ExecutionFailed(
            code=ErrorCode.LIMIT_DURATION,
            message="limits.duration is over, and no runner ended the execution",
            hint="raise limits.duration in the manifest, or check that a runner is connected",
        )
        await self._end(state, event)
        await self._temporal.terminate_workflow(state.workflow, "limits.duration is over")

    async def _end(self, state: ExecutionState, event: ExecutionCancelled | ExecutionFailed) -> None:
        assert self._endings is not None
        ended = await self._endings.end(state, event)
        logger.info("ended: %s", ended.phase, extra={"execution_id": state.execution_id})

    async def _start(self, state: ExecutionState) -> None:
        try:
            await self._temporal.start_workflow(state.workflow)
        except TemporalUnavailable as error:
            self._note_away(error)
        finally:
            self._starting.discard(state.execution_id)

    async def _begin_again(self, state: ExecutionState) -> None:
        """Never are two open: one that has not ended yet, or still looks for its leg's end, is replaced."""
        try:
            view = await self._temporal.look_at_workflow(state.workflow)
            is_open = view.condition in OPEN_CONDITIONS
            await self._temporal.start_workflow(state.workflow, anew=not is_open, replacing=is_open)
        except TemporalUnavailable as error:
            self._note_away(error)
        finally:
            self._starting.discard(state.execution_id)

    async def _wake(self, state: ExecutionState) -> None:
        try:
            await self._temporal.signal_workflow(state.workflow)
        except TemporalUnavailable as error:
            self._note_away(error)

    async def _follow_cancellation(self, execution_id: str) -> None:
        assert self._executions is not None
        state = await self._executions.load(execution_id)
        try:
            if state.phase.is_terminal:
                # It was ended at once, since no runner had it; its workflow has no use any more.
                await self._temporal.terminate_workflow(state.workflow, "cancelled while no runner had it")
                return
            await self._temporal.cancel_workflow(state.workflow)
        except TemporalUnavailable as error:
            self._note_away(error)
            return
        for seconds in CANCEL_LOOKS_SECONDS:
            await asyncio.sleep(seconds)
            state = await self._executions.load(execution_id)
            if state.phase.is_terminal:
                return
            await self._look(state)

    def _note_away(self, error: TemporalUnavailable) -> None:
        if not self._temporal_is_away:
            logger.warning("%s", error)
        self._temporal_is_away = True
        self._away.set()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(_log_failure(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _log_failure(work: Awaitable[None]) -> None:
    try:
        await work
    except ServerError as error:
        logger.warning("left to the next round: %s", error)
    except Exception:
        logger.exception("left to the next round")


def _load_moving(connection: Connection) -> list[ExecutionState]:
    """Those that a runner is to have, or has, in hand, and those whose wait is over."""
    due = datetime.now(UTC) - DUE_GRACE
    waits_no_more = and_(executions.c.phase == ExecutionPhase.WAITING, executions.c.wake_at < due)
    moving = or_(executions.c.phase.in_(MOVING_PHASES), waits_no_more)
    return [ExecutionState.from_row(row) for row in connection.execute(select(executions).where(moving))]


def _load_unended_with_workspace(connection: Connection) -> list[tuple[ExecutionState, str]]:
    query = (
        select(executions, sessions.c.workspace)
        .join(sessions, sessions.c.session_id == executions.c.session_id)
        .where(executions.c.phase.in_(UNENDED_PHASES), sessions.c.workspace.is_not(None))
    )
    return [(ExecutionState.from_row(row), row.workspace) for row in connection.execute(query)]


def _load_waiting(connection: Connection, after: str) -> list[ExecutionState]:
    """Some of those that wait, by their ids; those whose time is over are none of them."""
    due = datetime.now(UTC) - DUE_GRACE
    waits_on = or_(executions.c.wake_at.is_(None), executions.c.wake_at >= due)
    query = (
        select(executions)
        .where(executions.c.phase == ExecutionPhase.WAITING, executions.c.execution_id > after, waits_on)
        .order_by(executions.c.execution_id)
        .limit(WAITING_LOOKS)
    )
    return [ExecutionState.from_row(row) for row in connection.execute(query)]


def _is_due(state: ExecutionState) -> bool:
    return state.wake_at is not None and datetime.now(UTC) > state.wake_at + DUE_GRACE


def _is_overdue(state: ExecutionState, now: datetime) -> bool:
    """`now` is the steady clock's."""
    if state.phase is ExecutionPhase.WAITING:
        return False  # the deadline moves on
    return state.deadline_at is not None and now > state.deadline_at + DURATION_GRACE
