"""The server's calls to Temporal: start, look at, cancel and end workflows, and see who polls the queue.

Connects at the first call and again after each loss, so the server runs without Temporal too. Every call is
bounded, and fails as `TemporalUnavailable`. Only ids cross.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Final

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import DescribeTaskQueueMode, PendingActivityState, TaskQueueType
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    GetWorkflowExecutionHistoryReverseRequest,
    RespondActivityTaskFailedRequest,
)
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import KeepAliveConfig, RPCError, RPCStatusCode, TLSConfig

from stigmer_contract.temporal import (
    LEG_LOST_FAILURE,
    LOOK_SIGNAL,
    WORKFLOW_TYPE,
    AgentExecutionInput,
    version_of_task_queue,
)
from stigmer_server.errors import TemporalUnavailable
from stigmer_server.execution_state import WorkflowName
from stigmer_server.settings import TemporalSettings

RPC_TIMEOUT: Final = timedelta(seconds=5)
CONNECT_TIMEOUT_SECONDS: Final = 5.0
KEEP_ALIVE: Final = KeepAliveConfig(interval_millis=11_000, timeout_millis=8_000)
"""As the runner's."""
WORKFLOW_TASK_TIMEOUT: Final = timedelta(seconds=2)
"""A task that was given to a frozen runner goes to another one after this long; one takes milliseconds. (The
default, 10 s, made a takeover last up to 32 s.)"""
LOOK_TIMEOUT: Final = timedelta(seconds=1)
"""For what a person or a probe waits for."""
LOOK_LIFETIME_SECONDS: Final = 1.0
POLLER_LIFETIME: Final = timedelta(seconds=70)
"""A worker renews its poll every 60 s (Temporal 1.32); Temporal goes on listing it for 5 minutes."""
POLLER_LOOK_LIFETIME_SECONDS: Final = 5.0
"""For what is looked at for each of many executions."""
FAILING_TASK_ATTEMPTS: Final = 3
"""A workflow task may fail once by bad luck: a worker that was killed with it."""
FAILURE_PAGE_SIZE: Final = 10
FAILURE_CHARACTERS: Final = 300
NO_RUNNER: Final = "no runner is connected"

_WORKFLOWS: Final = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW


class WorkflowCondition(Enum):
    """How a workflow stands, as far as the server must know."""

    RUNNING_LEG = auto()
    """A worker has an activity of it in hand."""
    QUEUED = auto()
    """Open; a task of it is on its way to a worker."""
    OPEN = auto()
    """Open, and there is nothing for a worker to do: it waits for a signal or a time."""
    CANCELLED = auto()
    TERMINATED = auto()
    """Somebody ended it by force."""
    CLOSED = auto()
    """Ended in any other way, which says nothing of the execution: its log is open."""
    NOT_FOUND = auto()


OPEN_CONDITIONS: Final = frozenset(
    {WorkflowCondition.RUNNING_LEG, WorkflowCondition.QUEUED, WorkflowCondition.OPEN}
)

_NO_ANSWER: Final = frozenset(
    {RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED}
)
"""The SDK itself cancels a call that takes longer than its timeout (temporalio 1.35)."""
_ENDED: Final = {
    WorkflowExecutionStatus.CANCELED: WorkflowCondition.CANCELLED,
    WorkflowExecutionStatus.TERMINATED: WorkflowCondition.TERMINATED,
}


@dataclass(frozen=True, slots=True)
class WorkflowView:
    """What Temporal says about a workflow."""

    condition: WorkflowCondition
    detail: str
    """How it ended, for a person, such as `terminated`."""
    problem: str | None = None
    """Why it does not get on, for a person: its tasks fail."""
    task_queue: str | None = None
    """Where it runs; None where it does not."""
    queued_for: timedelta | None = None
    """How long a task of it has been waiting for a worker to take it; None where none waits."""


class TemporalClient:
    """One connection, shared by all calls."""

    def __init__(self, settings: TemporalSettings, heartbeat_timeout_seconds: float) -> None:
        self._settings = settings
        self._heartbeat_timeout_seconds = heartbeat_timeout_seconds
        self._client: Client | None = None
        self._connect_lock = asyncio.Lock()
        self._polled: dict[str, tuple[float, bool]] = {}
        self._look_lock = asyncio.Lock()
        self._looks: dict[tuple[str, ...], tuple[float, str | None]] = {}

    async def start_workflow(
        self, workflow: WorkflowName, *, anew: bool = False, replacing: bool = False
    ) -> bool:
        """Make sure that the execution's workflow exists. Never are two of one id open.

        Args:
            workflow: which one.
            anew: whether to start it again where it has ended.
            replacing: whether to end the one that is open, in the same act; its place is another task queue.

        Returns:
            False where it existed and has already ended.

        Raises:
            TemporalUnavailable: Temporal does not answer, or refuses.
        """
        async with self._translated_errors() as client:
            try:
                await client.start_workflow(
                    WORKFLOW_TYPE,
                    AgentExecutionInput(
                        execution_id=workflow.execution_id,
                        heartbeat_timeout_seconds=self._heartbeat_timeout_seconds,
                        workflow_version=version_of_task_queue(workflow.task_queue),
                        leg_task_queue=workflow.leg_task_queue,
                    ),
                    id=workflow.workflow_id,
                    task_queue=workflow.task_queue or self._settings.task_queue,
                    task_timeout=WORKFLOW_TASK_TIMEOUT,
                    id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING
                    if replacing
                    else WorkflowIDConflictPolicy.USE_EXISTING,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE
                    if anew or replacing
                    else WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    rpc_timeout=RPC_TIMEOUT,
                )
            except WorkflowAlreadyStartedError:
                return False
        return True

    async def look_at_workflow(self, workflow: WorkflowName) -> WorkflowView:
        """How the execution's workflow stands.

        Raises:
            TemporalUnavailable: Temporal does not answer, or refuses.
        """
        async with self._translated_errors() as client:
            try:
                description = await _handle(client, workflow).describe(rpc_timeout=RPC_TIMEOUT)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND or _names_namespace(error):
                    raise
                return WorkflowView(WorkflowCondition.NOT_FOUND, "not found")
            status = description.status
            if status is None or status is WorkflowExecutionStatus.RUNNING:
                problem = await self._find_failing_task(client, description)
                condition = _condition_of_open(description)
                queued_for = _find_queued_for(description)
                return WorkflowView(condition, "running", problem, description.task_queue, queued_for)
        condition = _ENDED.get(status, WorkflowCondition.CLOSED)
        return WorkflowView(condition, status.name.lower().replace("_", " "))

    async def signal_workflow(self, workflow: WorkflowName) -> None:
        """Tell the workflow to look at the log; one that is gone or has ended is left as it is.

        Raises:
            TemporalUnavailable: Temporal does not answer, or refuses.
        """
        async with self._translated_errors() as client:
            with _missing_is_fine():
                await _handle(client, workflow).signal(LOOK_SIGNAL, rpc_timeout=RPC_TIMEOUT)

    async def cancel_workflow(self, workflow: WorkflowName) -> None:
        """Ask the workflow to stop; one that is gone or has ended is left as it is.

        Raises:
            TemporalUnavailable: Temporal does not answer, or refuses.
        """
        async with self._translated_errors() as client:
            with _missing_is_fine():
                await _handle(client, workflow).cancel(rpc_timeout=RPC_TIMEOUT)

    async def terminate_workflow(self, workflow: WorkflowName, reason: str) -> None:
        """End the workflow without asking it; one that is gone or has ended is left as it is.

        Raises:
            TemporalUnavailable: Temporal does not answer, or refuses.
        """
        async with self._translated_errors() as client:
            with _missing_is_fine():
                await _handle(client, workflow).terminate(reason=reason, rpc_timeout=RPC_TIMEOUT)

    async def _find_failing_task(
        self, client: Client, description: WorkflowExecutionDescription
    ) -> str | None:
        """Why the workflow's tasks fail; None where they do not."""
        attempt = description.raw_description.pending_workflow_task.attempt
        if attempt < FAILING_TASK_ATTEMPTS:
            return None
        # Temporal writes down the first failure of a row, and is silent about those that follow.
        history = await client.workflow_service.get_workflow_execution_history_reverse(
            GetWorkflowExecutionHistoryReverseRequest(
                namespace=self._settings.namespace,
                execution=WorkflowExecution(workflow_id=description.id, run_id=description.run_id),
                maximum_page_size=FAILURE_PAGE_SIZE,
            ),
            timeout=RPC_TIMEOUT,
        )
        for event in history.history.events:
            if event.HasField("workflow_task_failed_event_attributes"):
                failure = event.workflow_task_failed_event_attributes.failure
                reason = " ".join(failure.message.split())[:FAILURE_CHARACTERS]
                return f"its workflow's task failed {attempt - 1} times: {reason}"
        return f"its workflow's task was not answered {attempt - 1} times"

    async def end_leg(self, task_token: bytes, how: str) -> None:
        """End the activity of a leg whose runner is no more, so that its workflow goes on at once.

        One that has ended or was given on meanwhile is left as it is: its token is another.

        Raises:
            TemporalUnavailable: Temporal does not answer, or refuses.
        """
        info = ApplicationFailureInfo(type=LEG_LOST_FAILURE, non_retryable=True)
        request = RespondActivityTaskFailedRequest(
            namespace=self._settings.namespace,
            task_token=task_token,
            identity="stigmer-server",
            failure=Failure(message=f"the runner has ended: {how}", application_failure_info=info),
        )
        async with self._translated_errors() as client:
            with _missing_is_fine():
                await client.workflow_service.respond_activity_task_failed(request, timeout=RPC_TIMEOUT)

    async def find_problem(self) -> str | None:
        """Why Temporal cannot be used; None where it can."""
        try:
            async with self._translated_errors() as client:
                request = DescribeNamespaceRequest(namespace=self._settings.namespace)
                await client.workflow_service.describe_namespace(request, timeout=LOOK_TIMEOUT)
        except TemporalUnavailable as error:
            return str(error)
        return None

    async def find_queue_problem(self, task_queues: Sequence[str]) -> str | None:
        """Why nobody takes what is on these queues: Temporal is away, or no worker polls any of them.

        At most a second old.
        """
        key = tuple(task_queues)
        async with self._look_lock:
            looked_at, problem = self._looks.get(key, (-LOOK_LIFETIME_SECONDS, None))
            if time.monotonic() - looked_at >= LOOK_LIFETIME_SECONDS:
                try:
                    problem = None if await self._is_any_polled(task_queues) else NO_RUNNER
                except TemporalUnavailable as error:
                    problem = str(error)
                self._looks[key] = (time.monotonic(), problem)
            return problem

    async def find_polled_queue(self, task_queues: Sequence[str]) -> str | None:
        """The first of the queues that a worker polls; at most some seconds old.

        Raises:
            TemporalUnavailable: Temporal does not answer, or refuses.
        """
        for queue in task_queues:
            looked_at, is_polled = self._polled.get(queue, (-POLLER_LOOK_LIFETIME_SECONDS, False))
            if time.monotonic() - looked_at >= POLLER_LOOK_LIFETIME_SECONDS:
                is_polled = await self._is_polled(queue)
                self._polled[queue] = (time.monotonic(), is_polled)
            if is_polled:
                return queue
        return None

    async def _is_any_polled(self, task_queues: Sequence[str]) -> bool:
        for queue in task_queues:
            if await self._is_polled(queue):
                return True
        return False

    async def _is_polled(self, task_queue: str) -> bool:
        request = DescribeTaskQueueRequest(
            namespace=self._settings.namespace,
            task_queue=TaskQueue(name=task_queue),
            # The plain mode shows the pollers of one partition of the queue only.
            api_mode=DescribeTaskQueueMode.DESCRIBE_TASK_QUEUE_MODE_ENHANCED,
            task_queue_types=[_WORKFLOWS],
            report_pollers=True,
        )
        async with self._translated_errors() as client:
            answer = await client.workflow_service.describe_task_queue(request, timeout=LOOK_TIMEOUT)
        oldest = datetime.now(UTC) - POLLER_LIFETIME
        return any(
            poller.last_access_time.ToDatetime(UTC) > oldest
            for version in answer.versions_info.values()
            for poller in version.types_info[_WORKFLOWS].pollers
        )

    @contextlib.asynccontextmanager
    async def _translated_errors(self) -> AsyncGenerator[Client]:
        try:
            yield await self._connected()
        except RPCError as error:
            if error.status in _NO_ANSWER:
                raise self._not_reachable() from error
            raise TemporalUnavailable(
                f"Temporal at {self._settings.address} refuses: {error.message}"
            ) from error
        except RuntimeError as error:
            # What the SDK raises where the first connection fails (temporalio 1.35, bridge client).
            raise self._not_reachable() from error
        except OSError as error:
            raise TemporalUnavailable(f"could not read a TLS file for Temporal: {error}") from error

    def _not_reachable(self) -> TemporalUnavailable:
        return TemporalUnavailable(f"Temporal is not reachable at {self._settings.address}")

    async def _connected(self) -> Client:
        if self._client is not None:
            return self._client
        try:
            # The SDK itself goes on trying for 20 s (temporalio 1.35).
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS), self._connect_lock:
                if self._client is None:
                    self._client = await self._make_client()
                return self._client
        except TimeoutError as error:
            raise self._not_reachable() from error

    async def _make_client(self) -> Client:
        settings = self._settings
        tls: bool | TLSConfig = settings.tls
        if settings.tls:
            tls = TLSConfig(
                server_root_ca_cert=settings.server_ca.read_bytes() if settings.server_ca else None,
                domain=settings.server_name,
                client_cert=settings.client_certificate.read_bytes() if settings.client_certificate else None,
                client_private_key=settings.client_key.read_bytes() if settings.client_key else None,
            )
        return await Client.connect(
            settings.address,
            namespace=settings.namespace,
            api_key=settings.api_key,
            tls=tls,
            data_converter=pydantic_data_converter,
            keep_alive_config=KEEP_ALIVE,
        )


def _condition_of_open(description: WorkflowExecutionDescription) -> WorkflowCondition:
    raw = description.raw_description
    started = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    if any(activity.state == started for activity in raw.pending_activities):
        return WorkflowCondition.RUNNING_LEG
    if raw.pending_activities or raw.HasField("pending_workflow_task"):
        return WorkflowCondition.QUEUED
    return WorkflowCondition.OPEN


def _find_queued_for(description: WorkflowExecutionDescription) -> timedelta | None:
    raw, scheduled = description.raw_description, PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    waiting = [
        activity.scheduled_time.ToDatetime(UTC)
        for activity in raw.pending_activities
        if activity.state == scheduled
    ]
    if raw.HasField("pending_workflow_task"):
        waiting.append(raw.pending_workflow_task.original_scheduled_time.ToDatetime(UTC))
    return datetime.now(UTC) - min(waiting) if waiting else None


@contextlib.contextmanager
def _missing_is_fine() -> Generator[None]:
    try:
        yield
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND or _names_namespace(error):
            raise


def _names_namespace(error: RPCError) -> bool:
    # Temporal answers NOT_FOUND for a missing namespace as well as for a missing workflow (server 1.32).
    return error.message.startswith("Namespace ")


def _handle(client: Client, workflow: WorkflowName) -> WorkflowHandle[object, object]:
    return client.get_workflow_handle(workflow.workflow_id)
