"""The Temporal workflow `AgentExecution`: runs legs until the execution has ended, and waits between them.

The only deterministic Temporal code. It knows ids, outcomes and times, never what an agent says or does: the
log has the answer to whatever is waited for, and a signal says only that there is something to look at.

A change must go on with what earlier versions left in Temporal (`test_workflow_histories` replays that), and
leave nothing that their runners, which may work beside, could not go on with. So a workflow stays what it was
started as (`workflow_version`), and a change asks for that. `workflow.patched` would not do: old code knows
nothing of the marker that it writes.
"""

import contextlib
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, CancelledError

with workflow.unsafe.imports_passed_through():
    from stigmer_contract.temporal import (
        LOOK_SIGNAL,
        RUN_LEG_ACTIVITY,
        WORKFLOW_TYPE,
        AgentExecutionInput,
        LegInput,
        LegOutcome,
        LegResult,
    )

LEG_TIMEOUT = timedelta(days=30)
"""A leg may take as long as the execution may; `limits.duration` is what bounds it."""
LEG_RETRY_OF_0_1_0 = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=15),
)
LEG_RETRY = RetryPolicy(maximum_attempts=1)
"""None: after a failure the workflow starts the next leg itself, at once, where a retry of Temporal's would
wait a second at least (dev server, 2026-11)."""
SHORT_LEG = timedelta(seconds=60)
"""A leg that failed sooner counts as fruitless, and the next one waits longer each time."""
FIRST_PAUSE = timedelta(milliseconds=200)
LONGEST_PAUSE = timedelta(seconds=15)
SUPERSEDED_PAUSE = timedelta(seconds=2)
"""Two workflows of one execution would else supersede each other's legs without end."""


@workflow.defn(name=WORKFLOW_TYPE)
class AgentExecution:
    """One execution, however many legs it takes."""

    def __init__(self) -> None:
        self._is_to_look = False
        self._fruitless_legs = 0

    @workflow.signal(name=LOOK_SIGNAL)
    def look(self) -> None:
        """Something has come that the execution may wait for."""
        self._is_to_look = True

    @workflow.run
    async def run(self, execution: AgentExecutionInput) -> None:
        """Run legs until one says that there is nothing more to do."""
        while True:
            # Whatever came until now, the leg will find in the log.
            self._is_to_look = False
            started_at = workflow.now()
            try:
                leg = await _run_leg(execution)
            except ActivityError:
                if execution.workflow_version == 1:
                    raise  # for Temporal has tried again for ever
                await self._pause_after_failure(started_at)
            else:
                if leg.outcome is LegOutcome.ENDED:
                    return
                self._fruitless_legs = 0
                await self._pause_after(leg, execution.workflow_version)
            if workflow.info().is_continue_as_new_suggested():
                # A leg comes next in any case, so no signal can be lost with this history.
                workflow.continue_as_new(execution)

    async def _pause_after(self, leg: LegResult, workflow_version: int) -> None:
        match leg.outcome:
            case LegOutcome.WAITING:
                _stop_where_cancelled()
                longest = None if leg.wait_seconds is None else timedelta(seconds=leg.wait_seconds)
                await self._wait(longest)
            case LegOutcome.SUPERSEDED:
                # It says nothing of the execution: what superseded it may have been a straggler of an earlier
                # attempt that Temporal has written off. The next leg finds out from the log.
                if workflow_version > 1:
                    await self._wait(SUPERSEDED_PAUSE)
            case _:
                pass

    async def _pause_after_failure(self, started_at: datetime) -> None:
        """Start the next leg at once where this one did something, else wait, a little longer each time.

        Raises:
            CancelledError: the execution is to stop.
        """
        _stop_where_cancelled()
        if workflow.now() - started_at >= SHORT_LEG:
            self._fruitless_legs = 0
        self._fruitless_legs += 1
        if self._fruitless_legs > 1:
            doublings = min(self._fruitless_legs - 2, 10)
            await self._wait(min(FIRST_PAUSE * 2**doublings, LONGEST_PAUSE))

    async def _wait(self, longest: timedelta | None) -> None:
        """Until a signal comes; None: however long that takes."""
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._is_to_look, timeout=longest)


def _stop_where_cancelled() -> None:
    """End, where the leg that was to be cancelled did not write that down: the server does so then.

    Raises:
        CancelledError: the execution is to stop.
    """
    if workflow.cancellation_reason() is not None:
        raise CancelledError("cancelled while no leg could write it down")


async def _run_leg(execution: AgentExecutionInput) -> LegResult:
    return await workflow.execute_activity(
        RUN_LEG_ACTIVITY,
        LegInput(execution_id=execution.execution_id),
        result_type=LegResult,
        task_queue=execution.leg_task_queue,
        start_to_close_timeout=LEG_TIMEOUT,
        heartbeat_timeout=timedelta(seconds=execution.heartbeat_timeout_seconds),
        retry_policy=LEG_RETRY_OF_0_1_0 if execution.workflow_version == 1 else LEG_RETRY,
        # The leg writes down that it was cancelled; until then the execution has not ended.
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )
