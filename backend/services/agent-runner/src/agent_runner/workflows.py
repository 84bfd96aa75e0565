"""The Temporal workflow `AgentExecution`: runs legs until the execution has ended.

The only deterministic Temporal code. It knows ids and outcomes, never what an agent says or does.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from stigmer_contract.temporal import (
        RUN_LEG_ACTIVITY,
        WORKFLOW_TYPE,
        AgentExecutionInput,
        LegInput,
        LegOutcome,
        LegResult,
    )

LEG_TIMEOUT = timedelta(days=30)
"""A leg may take as long as the execution may; `limits.duration` is what bounds it."""
LEG_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=15),
)
"""A leg whose runner died is given to another at once, and for ever: the leg itself notices a crash loop."""


@workflow.defn(name=WORKFLOW_TYPE)
class AgentExecution:
    """One execution, however many legs it takes. The workflow id is the execution id."""

    @workflow.run
    async def run(self, execution: AgentExecutionInput) -> None:
        """Run legs until one says that there is nothing more to do."""
        while True:
            leg: LegResult = await workflow.execute_activity(
                RUN_LEG_ACTIVITY,
                LegInput(execution_id=execution.execution_id),
                result_type=LegResult,
                start_to_close_timeout=LEG_TIMEOUT,
                heartbeat_timeout=timedelta(seconds=execution.heartbeat_timeout_seconds),
                retry_policy=LEG_RETRY,
                # The leg writes down that it was cancelled; until then the execution has not ended.
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            )
            # A superseded leg says nothing of the execution: what superseded it may have been a straggler of
            # an earlier attempt that Temporal has written off. The next leg finds out from the log.
            if leg.outcome is LegOutcome.ENDED:
                return
