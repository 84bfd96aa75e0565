"""The runner's process: connects, polls the task queue, answers for its health, drains on SIGTERM.

Composes what the other modules offer; decides nothing about an execution.
"""

import asyncio
import contextlib
import gc
import logging
import math
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

from temporalio.api.enums.v1 import DescribeTaskQueueMode, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from agent_runner.activities import HEARTBEAT_INTERVAL, LegActivities
from agent_runner.commands import open_commands
from agent_runner.errors import ServerRefused
from agent_runner.health import HealthServer
from agent_runner.leg_parts import RUNNER_VERSION, LateModels, LegParts
from agent_runner.legs import LegRunner, load_leg
from agent_runner.loop_marker import marking
from agent_runner.runner_locks import RunnerLocks
from agent_runner.secrets_in_use import SecretsInUse
from agent_runner.server_client import ServerClient
from agent_runner.settings import RunnerSettings
from agent_runner.standing_reports import StandingReports
from agent_runner.temporal_connection import connect
from agent_runner.tracing import open_tracing
from agent_runner.workflows import AgentExecution
from stigmer_contract.builds import find_other_build
from stigmer_contract.disk_space import free_bytes, warning_of
from stigmer_isolation.zygote.abandoned_roots import remove_abandoned_roots

logger = logging.getLogger(__name__)

CONNECT_FIRST_DELAY_SECONDS: Final = 0.1
CONNECT_MAX_DELAY_SECONDS: Final = 2.0
SHUTDOWN_MARGIN_SECONDS: Final = 2.0
"""Kept of the drain's grace for dropping what could not finish and for writing that down."""

_ACTIVITIES: Final = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
OBJECTS_BETWEEN_COLLECTIONS: Final = 20_000
"""Of Python's default, 700, a tenth of an execution's processor time went into looking (2026-11)."""
QUEUE_LOOK_SECONDS: Final = 30.0
"""How often it is looked whether an older task queue is needed any more."""
RENEW_AFTER_SECONDS: Final = 120.0
"""So long a container's runner is idle before it gives back what it has loaded and kept for its legs, some
60 MB; whoever comes later waits the second that loading takes."""
IDLE_LOOK_SECONDS: Final = 10.0
DRAIN_TIMEOUT: Final = timedelta(days=1)
"""Of Temporal's worker; what really bounds a drain is how long the legs are waited for."""
DESCRIBE_TIMEOUT: Final = timedelta(seconds=2)
"""Longest wait for Temporal to say who polls the task queue."""


async def run_worker(
    settings: RunnerSettings,
    command_variables: Mapping[str, str],
    secrets_in_use: SecretsInUse,
    *,
    is_spare: bool = False,
    is_contained: bool = False,
) -> bool:
    """Run until SIGTERM or SIGINT, then drain; a second one says that the time is up. With SIGUSR1 the drain
    takes as long as the steps in hand, until SIGTERM. Agents' commands get `command_variables` and no others.

    A spare one makes everything ready, and waits until it is its turn. One that has a container to itself
    loads what legs need with the first one: there are many of these, and most are idle.

    Returns:
        Whether the process ends only to be renewed: it has a container to itself, and was idle for so long
        that what the legs brought is better given back.
    """
    ending = _Ending()
    ending.listen(asyncio.get_running_loop(), takes_renewal=is_contained)
    stop = ending.begun
    if not is_contained:
        load_leg()
    if is_spare:
        await asyncio.to_thread(_preload_providers, settings)
    # What was imported stays: looking through it at each collection took a tenth of the processor's time.
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    gc.enable()
    async with contextlib.AsyncExitStack() as resources:
        # First, while there is the least to inherit.
        # Containers on one host's network share the host's name and number their processes alike.
        own_name = f"{os.getpid()}@{os.uname().nodename}:{secrets.token_hex(4)}"
        identity = settings.runner_name or own_name
        locks = RunnerLocks(settings.sandbox_root_dir, identity)
        held = _hold(locks)
        for descriptor in held:
            resources.enter_context(marking(descriptor))
        commands = await resources.enter_async_context(
            open_commands(settings, command_variables, held=held, tell_in_hand=locks.tell_in_hand)
        )
        server = ServerClient(settings.backend_endpoint, settings.token.get_secret_value())
        resources.push_async_callback(server.close)
        models = LateModels(settings)
        resources.push_async_callback(models.close)
        if is_spare:
            if not await _is_our_turn(stop):
                return False
            # Of whoever was the runner until now.
            await asyncio.to_thread(remove_abandoned_roots, commands.temporary_place)
        tracing = open_tracing(settings, RUNNER_VERSION, secrets_in_use.mask)
        parts = LegParts(
            settings=settings,
            client=server,
            launcher=commands.launcher,
            models=models,
            secrets=secrets_in_use,
            tracing=tracing,
            locks=locks,
        )
        legs = LegRunner(parts, identity=identity)
        reports = StandingReports(
            server,
            identity=identity,
            version=RUNNER_VERSION,
            slots=settings.temporal_max_concurrency,
            isolation=commands.isolation.to_json(),
        )
        runner = _Runner(settings, server, legs, identity, reports, is_renewable=is_contained)
        health = await resources.enter_async_context(
            HealthServer(
                settings.health_host,
                settings.health_port,
                runner.checks(),
                version=RUNNER_VERSION,
                isolation=commands.isolation.to_json(),
                find_warnings=lambda: _find_warnings(settings.sandbox_root_dir),
                find_other_build=lambda: runner.other_build,
            )
        )
        try:
            await runner.run_until(ending, health)
        finally:
            await tracing.close(runner.drain_seconds_left())
    return runner.wants_renewal and not stop.is_set()


def _preload_providers(settings: RunnerSettings) -> None:
    from agent_runner.models import preload_providers

    preload_providers(settings)


def _find_warnings(workspace_root: Path) -> list[str]:
    warning = warning_of("the workspaces of sessions", free_bytes(workspace_root))
    return [] if warning is None else [warning]


class _Ending:
    """How the process was told to end."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        """To drain."""
        self.hurried = asyncio.Event()
        """The time is up."""
        self.is_patient = False
        """Whether there is no time by which the drain has to end, until `hurried`."""
        self.renewal = asyncio.Event()
        """The process may be renewed at once, if it is idle."""

    def listen(self, loop: asyncio.AbstractEventLoop, *, takes_renewal: bool) -> None:
        """Take the signals."""
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, self._end)
        loop.add_signal_handler(signal.SIGUSR1, self._end_patiently)
        if takes_renewal:
            loop.add_signal_handler(signal.SIGUSR2, self.renewal.set)

    def _end(self) -> None:
        (self.hurried if self.begun.is_set() else self.begun).set()

    def _end_patiently(self) -> None:
        if not self.begun.is_set():
            self.is_patient = True
            self.begun.set()


def _hold(locks: RunnerLocks) -> tuple[int, ...]:
    try:
        return (locks.hold(),)
    except OSError as error:  # readiness says why the directory cannot be used
        logger.warning("no lock for this runner's commands could be taken: %s", error)
        return ()


async def _is_our_turn(stop: asyncio.Event) -> bool:
    """Wait for a line on standard input; False where that ends, or `stop` comes first."""
    said = asyncio.create_task(_first_line())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({said, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if stop.is_set():
        said.cancel()
        return False
    return bool(said.result())


async def _first_line() -> bytes:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return await reader.readline()


@dataclass(frozen=True)
class _Poll:
    """A worker that polls one task queue."""

    worker: Worker
    task: "asyncio.Task[None]"

    @classmethod
    def start(cls, worker: Worker) -> Self:
        """Begin to poll."""
        return cls(worker, asyncio.create_task(worker.run()))


class _Runner:
    """One worker on one Temporal namespace."""

    def __init__(
        self,
        settings: RunnerSettings,
        server: ServerClient,
        legs: LegRunner,
        identity: str,
        reports: StandingReports,
        *,
        is_renewable: bool,
    ) -> None:
        self._settings = settings
        self._server = server
        self._legs = legs
        self._client: Client | None = None
        self._task_queue: str | None = None
        """The installation's own; None: the server has not said it yet."""
        self._identity = identity
        self._reports = reports
        self._drain_until: float | None = None
        self._is_renewable = is_renewable
        self.other_build: str | None = None
        """What to tell a person, where the server is another build of this version."""
        self.wants_renewal = False
        """Whether `run_until` ended since the process is idle."""

    def drain_seconds_left(self) -> float:
        """What is left of the drain's grace."""
        if self._drain_until is None:
            return self._settings.drain_grace_seconds
        return self._drain_until - asyncio.get_running_loop().time()

    async def run_until(self, ending: _Ending, health: HealthServer) -> None:
        """Connect, however long that takes, poll until that begins, then drain."""
        stop = ending.begun
        stopping = asyncio.create_task(stop.wait())
        connecting = asyncio.create_task(self._connect())
        await asyncio.wait({stopping, connecting}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            connecting.cancel()
            return
        self._client = connecting.result()
        learning = asyncio.create_task(self._learn_queues())
        await asyncio.wait({stopping, learning}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            learning.cancel()
            return
        self._task_queue, *older = learning.result()
        polls = {
            queue: _Poll.start(self._worker(self._client, queue)) for queue in (self._task_queue, *older)
        }
        logger.info("polling task queue %s as %s", ", ".join(polls), self._identity)
        retiring = asyncio.create_task(self._retire_older(polls))
        idling = asyncio.create_task(self._until_long_idle(ending))
        telling = asyncio.create_task(self._reports.run())
        await until_one_ends(lambda: {stopping, idling, *(poll.task for poll in polls.values())})
        self.wants_renewal = idling.done()
        if self.wants_renewal:
            logger.info("idle: giving back what the work has taken")
            self._legs.drain()
        if ending.is_patient or self.wants_renewal:
            health.stop_listening()  # who comes after this runner may be here already
        else:
            self._drain_until = asyncio.get_running_loop().time() + self._settings.drain_grace_seconds
        for waiting in (stopping, idling, retiring, telling):
            waiting.cancel()
        last_words = asyncio.create_task(self._reports.tell_end(ended=False))
        if stop.is_set():
            logger.info("draining: %d leg(s) in hand", self._legs.active_legs)
            self._legs.drain()
        stopped = [asyncio.create_task(poll.worker.shutdown()) for poll in polls.values()]
        # Legs whose activity Temporal has lost are none of the workers', and end with the others.
        has_time = ending.is_patient or self.wants_renewal
        grace = math.inf if has_time else self.drain_seconds_left() - SHUTDOWN_MARGIN_SECONDS
        # A leg that came in the last moment before a renewal has no drain of its own to be patient for.
        await self._legs.finish(grace, stop if self.wants_renewal else ending.hurried)
        await asyncio.gather(*stopped, *(poll.task for poll in polls.values()), last_words)
        await self._reports.tell_end(ended=True)
        logger.info("stopped")

    async def _until_long_idle(self, ending: _Ending) -> None:
        """Wait until there were legs, and none for long; for ever where nobody would renew the process."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_LOOK_SECONDS):
                    await ending.renewal.wait()
            idle = self._legs.idle_seconds
            is_long = idle is not None and (idle >= RENEW_AFTER_SECONDS or ending.renewal.is_set())
            if is_long and self._is_renewable:
                return
            ending.renewal.clear()

    async def _learn_queues(self) -> list[str]:
        """What to poll: the installation's queue first, then those that older executions still run on.

        Of a placement it is its own queue alone.
        """
        if self._settings.placement_task_queue is not None:
            return [self._settings.placement_task_queue]
        try:
            installation = await self._server.installation()
        except ServerRefused as error:  # of 0.1.0, which has no names of its own
            logger.warning("the server does not say which task queue is its own: %s", error)
            return [self._settings.temporal_task_queue]
        self.other_build = find_other_build(RUNNER_VERSION, (installation.version, installation.build))
        if self.other_build is not None:
            logger.warning("%s", self.other_build)
        return [installation.task_queue, *installation.older_task_queues]

    async def _retire_older(self, polls: "dict[str, _Poll]") -> None:
        """Poll an older queue no more once nothing is left that was started on it."""
        while len(polls) > 1:
            await asyncio.sleep(QUEUE_LOOK_SECONDS)
            try:
                installation = await self._server.installation()
            except ServerRefused as error:
                logger.warning("the server does not say which older task queues are in use: %s", error)
                continue
            wanted = {self._task_queue, *installation.older_task_queues}
            for queue in [queue for queue in polls if queue not in wanted]:
                await polls.pop(queue).worker.shutdown()
                logger.info("nothing is left on task queue %s", queue)

    def _worker(self, client: Client, task_queue: str) -> Worker:
        return Worker(
            client,
            task_queue=task_queue,
            # Workflows are the standing runners': a cancel and a timer need one when no placement stands.
            workflows=[] if self._settings.placement_task_queue else [AgentExecution],
            activities=[LegActivities(self._legs, client).run_leg],
            identity=self._identity,
            max_concurrent_activities=self._settings.temporal_max_concurrency,
            # Each open poll of a process that freezes takes a task with it, and five of each kind are the
            # default. One at a time is quick enough: what is at hand, a poll brings within milliseconds.
            max_concurrent_workflow_task_polls=1,
            max_concurrent_activity_task_polls=1,
            # No sticky queue: a killed runner's workflows go on at once elsewhere. Histories are a few
            # events long, so reading one again costs nothing.
            max_cached_workflows=0,
            # The sandbox would import the workflow's module anew for each task, to catch non-determinism;
            # `workflows` is a loop over one activity, and import-linter keeps it so.
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_heartbeat_throttle_interval=HEARTBEAT_INTERVAL,
            default_heartbeat_throttle_interval=HEARTBEAT_INTERVAL,
            graceful_shutdown_timeout=DRAIN_TIMEOUT,
        )

    async def _connect(self) -> Client:
        delay = CONNECT_FIRST_DELAY_SECONDS
        while True:
            try:
                return await connect(self._settings, self._identity)
            except (RPCError, RuntimeError) as error:
                logger.warning(
                    "Temporal at %s does not answer (%s); trying again",
                    self._settings.temporal_address,
                    type(error).__name__,
                )
            await asyncio.sleep(delay)
            delay = min(delay * 2, CONNECT_MAX_DELAY_SECONDS)

    # --- health -------------------------------------------------------------------------------

    def checks(self) -> dict[str, Callable[[], Awaitable[str | None]]]:
        """What readiness depends on; each check gives None, or the reason why it does not hold."""
        return {
            "temporal": self._check_polling,
            "server": self._server.is_reachable,
            "workspace": self._check_workspace,
        }

    async def _check_polling(self) -> str | None:
        """Ask Temporal itself whether this worker polls the queue."""
        address, queue = self._settings.temporal_address, self._task_queue
        if self._client is None:
            return f"not connected to Temporal at {address}"
        if queue is None:
            return "waiting for the server to say which task queue is its own"
        try:
            for list_pollers in (self._list_pollers_of_first_partition, self._list_pollers):
                if self._identity in await list_pollers(self._client, queue):
                    return None
        except RPCError as error:
            return f"Temporal at {address} does not answer: {error.status.name}"
        return f"Temporal does not list this worker on task queue {queue}"

    async def _list_pollers_of_first_partition(self, client: Client, queue: str) -> set[str]:
        """Of several runners not all are among them, as they take turns; but it is told as of now."""
        answer = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=self._settings.temporal_namespace,
                task_queue=TaskQueue(name=queue),
                task_queue_type=_ACTIVITIES,
            ),
            timeout=DESCRIBE_TIMEOUT,
        )
        return {poller.identity for poller in answer.pollers}

    async def _list_pollers(self, client: Client, queue: str) -> set[str]:
        """Of all partitions; as of up to five seconds ago (Temporal 1.32, TaskQueueInfoByBuildIdTTL)."""
        answer = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=self._settings.temporal_namespace,
                task_queue=TaskQueue(name=queue),
                api_mode=DescribeTaskQueueMode.DESCRIBE_TASK_QUEUE_MODE_ENHANCED,
                task_queue_types=[_ACTIVITIES],
                report_pollers=True,
            ),
            timeout=DESCRIBE_TIMEOUT,
        )
        return {
            poller.identity
            for version in answer.versions_info.values()
            for poller in version.types_info[_ACTIVITIES].pollers
        }

    async def _check_workspace(self) -> str | None:
        return await asyncio.to_thread(_why_not_writable, self._settings.sandbox_root_dir)


async def until_one_ends(tasks: Callable[[], Collection[asyncio.Task[Any]]]) -> None:
    """Wait until one of the tasks that are there by then has ended: one that was taken out may."""
    while not any(task.done() for task in tasks()):
        await asyncio.wait(tasks(), return_when=asyncio.FIRST_COMPLETED)


def _why_not_writable(directory: Path) -> str | None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return None
    except OSError as error:
        return f"cannot write to {str(directory)!r}: {error.strerror}"
