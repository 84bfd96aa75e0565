"""The Temporal activity `run_leg`: a leg's heartbeat and cancellation.

The danger is here. Without a heartbeat Temporal gives the leg to another worker; a cancellation that is not
told from a shutdown would end an execution that was only to move, and one that is not told from a loss would
drop what a healthy runner has in hand. What a leg does is `leg`'s work.
"""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio import activity
from temporalio.api.workflowservice.v1 import RecordActivityTaskHeartbeatRequest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from agent_runner.errors import RunnerError, stack_of
from agent_runner.leg_parts import StopReason, cancel_and_wait
from agent_runner.legs import ActivityAttempt, LegRunner
from stigmer_contract.temporal import RUN_LEG_ACTIVITY, LegInput, LegOutcome, LegResult

logger = logging.getLogger(__name__)

HEARTBEAT_INTERVAL: Final = timedelta(seconds=1)
"""Also how long a cancellation takes to be noticed: Temporal tells of it in its answer to a heartbeat."""
HEARTBEATS_PER_TIMEOUT: Final = 3
"""So many heartbeats would have to be late in a row before a living leg is written off."""

LOOK_TIMEOUT: Final = timedelta(seconds=2)


class LegActivities:
    """The activities of this worker."""

    def __init__(self, legs: LegRunner, client: Client) -> None:
        """`legs` runs them; `client` is the worker's own."""
        self._legs = legs
        self._client = client

    @activity.defn(name=RUN_LEG_ACTIVITY)
    async def run_leg(self, leg: LegInput) -> LegResult:
        """Run one leg of the execution, to its end or until it has to stop."""
        if await self._is_written_off():
            return LegResult(outcome=LegOutcome.SUPERSEDED)
        attempt = _attempt()
        heart = asyncio.create_task(_beat())
        work = asyncio.create_task(self._legs.run(leg.execution_id, attempt))
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            reason = self._stop_reason()
            if reason is None:
                # Without a slot of this worker's, so that the next activity can come.
                self._legs.let_go(leg.execution_id, attempt)
                await cancel_and_wait(work)
                raise
            self._legs.stop(leg.execution_id, reason)
            await asyncio.wait({work})
        finally:
            await cancel_and_wait(heart)
        return _result(work)

    def _stop_reason(self) -> StopReason | None:
        """Why Temporal cancelled this activity; None: it lost it, which is no reason to stop the leg."""
        details = activity.cancellation_details()
        if details is not None and details.cancel_requested:
            return StopReason.CANCEL
        if details is not None and details.worker_shutdown and self._legs.is_draining:
            return StopReason.HAND_BACK
        return None

    async def _is_written_off(self) -> bool:
        """Whether Temporal has given the leg to another worker before this one came to start it.

        That happens where a process was stopped for a while (a laptop's lid, SIGSTOP) with the task on its
        way to it. If it took the execution now, it would fence off the worker that has it rightly.
        """
        info = activity.info()
        age = datetime.now(UTC) - info.started_time
        if abs(age) < (info.heartbeat_timeout or timedelta.max) / 2:
            return False
        try:
            await self._client.workflow_service.record_activity_task_heartbeat(
                RecordActivityTaskHeartbeatRequest(
                    namespace=info.namespace, task_token=info.task_token, identity=self._client.identity
                ),
                timeout=LOOK_TIMEOUT,
            )
        except RPCError as error:
            return error.status is RPCStatusCode.NOT_FOUND
        return False


async def _beat() -> None:
    timeout = activity.info().heartbeat_timeout or timedelta.max
    interval = min(HEARTBEAT_INTERVAL, timeout / HEARTBEATS_PER_TIMEOUT)
    while True:
        # The start counts as the first heartbeat; a leg that ends soon costs Temporal none.
        await asyncio.sleep(interval.total_seconds())
        activity.heartbeat()


def _attempt() -> ActivityAttempt:
    info = activity.info()
    key = f"{info.workflow_run_id}/{info.activity_id}/{info.attempt}"
    ahead = datetime.now(UTC) - info.started_time
    return ActivityAttempt(
        key=key, task_token=info.task_token, ahead_of_temporal_seconds=ahead.total_seconds()
    )


def _result(work: "asyncio.Task[LegResult]") -> LegResult:
    """The leg's result. An error is passed to Temporal by type only: its text could quote anything."""
    if work.cancelled():
        raise asyncio.CancelledError
    error = work.exception()
    if error is None:
        return work.result()
    if isinstance(error, RunnerError):
        logger.warning("leg could not be run: %s", error)
    else:
        logger.error("leg failed unexpectedly:\n%s", stack_of(error))
    raise ApplicationError("the leg failed; see the runner's log", type=type(error).__name__) from None
