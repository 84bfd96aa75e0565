"""The supervisor: the one process that starts, watches and ends the components of one STIGMER_HOME.

`python -m stigmer_cli.stack.supervisor` leaves its starter behind, in a session of its own, and runs until
SIGTERM. Which components there are is said elsewhere; who may start it, too.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stigmer_cli.processes.guard import GUARD_COMMAND, environment_of_guard
from stigmer_cli.processes.identity import ProcessIdentity, identify
from stigmer_cli.program_version import program_version
from stigmer_cli.stack.component import Component
from stigmer_cli.stack.keeper import ComponentKeeper, RestartPolicy
from stigmer_cli.stack.locks import FileLock
from stigmer_cli.stack.log_files import RotatingLog
from stigmer_cli.stack.placements import PlacementMaker, Placements
from stigmer_cli.stack.server_calls import LocalServer
from stigmer_cli.stack.state import (
    LOOPBACK,
    RUNNER,
    ComponentPhase,
    ComponentState,
    PlacementState,
    StackFiles,
    StackState,
    write_json,
    write_state,
)
from stigmer_contract.handed_environment import receive_environment
from stigmer_contract.process_protection import protect_process

if TYPE_CHECKING:
    from stigmer_cli.config import Configuration

logger = logging.getLogger(__name__)

PLACED_PROBE_SECONDS = 0.5
STOP_SECONDS = 9.0
"""Everything has ended after this long, or is killed: `stigmer server stop` takes 10 s at most."""
OWNER_INTERVAL_SECONDS = 0.5
"""How often a stack that runs for one process alone looks whether that is still there."""


@dataclass(frozen=True)
class Placing:
    """How placements get containers."""

    server: LocalServer
    maker: PlacementMaker
    idle_seconds: float
    max_containers: int


class Supervisor:
    """Runs the components until it is told to end."""

    def __init__(
        self,
        components: Sequence[Component],
        files: StackFiles,
        log_directory: Path,
        *,
        version: str,
        model_fingerprint: str,
        policy: RestartPolicy | None = None,
        placing: Placing | None = None,
    ) -> None:
        """`components` are in the order in which they depend on each other; they end in reverse order.

        `placing` says how placements get containers; None: they get none, since the runner is no container.
        """
        identity = identify(os.getpid())
        assert identity is not None, "this process runs"
        self._components = components
        self._files = files
        self._log_directory = log_directory
        self._policy = policy or RestartPolicy()
        self._placing = placing
        self._logs = dict[str, RotatingLog]()
        self._stop_requested = asyncio.Event()
        self._hand_over_requested = asyncio.Event()
        self._has_handed_over = False
        self._guard_pipe: int | None = None
        """What is written there the guard reads; that it closes tells the guard that we are no more."""
        self._watched: dict[ProcessIdentity, float] = {}
        """What runs, with the seconds that the guard gives it to end."""
        states = tuple(_initial_state(component) for component in components)
        self._identity = identity
        self._state = StackState(identity, version, model_fingerprint, states, can_hand_over=True)

    async def run(self, on_running: Callable[[], None], make_room: Callable[[], None]) -> None:
        """Runs until SIGTERM, or SIGUSR1: then the runner finishes what it is at.

        Args:
            on_running: is called once the state is on record.
            make_room: is called when another supervisor may begin, though this one's runner has not ended.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop_requested.set)
        loop.add_signal_handler(signal.SIGUSR1, self._hand_over_requested.set)
        for ignored in (signal.SIGHUP, signal.SIGINT):
            signal.signal(ignored, signal.SIG_IGN)
        write_state(self._files.state, self._state)
        on_running()
        guarding = asyncio.create_task(self._keep_guard())
        owned = asyncio.create_task(self._end_with_owner())
        keepers = [self._make_keeper(component) for component in self._components if component.launcher]
        tasks = [asyncio.create_task(keeper.keep()) for keeper in keepers]
        placements = self._make_placements(self._placing) if self._placing else None
        placing = asyncio.create_task(placements.run()) if placements else None
        kept = list(zip(keepers, tasks, strict=True))
        is_handed_over = await self._is_handed_over()
        drain_seconds = _read_seconds(self._files.grace) if is_handed_over else 0.0
        closing = None
        if placements is not None and placing is not None:
            placing.cancel()
            # Their executions go on where the next supervisor, or the next start, gives them containers.
            closing = asyncio.create_task(placements.close(drain_seconds))
        if is_handed_over:
            draining = [one for one in kept if one[0].component.can_drain]
            rest = [one for one in kept if not one[0].component.can_drain]
            await self._hand_over(draining, rest, make_room, drain_seconds, closing)
            kept = draining
        logger.info("stopping")
        if placements is not None:
            placements.hurry()
        await _end_in_time(kept, closing)
        for process in self._watched:  # the time is up
            process.send(signal.SIGKILL, to_group=True)
        owned.cancel()
        guarding.cancel()
        await asyncio.wait([guarding])
        if self._has_handed_over:
            self._files.draining(self._identity).unlink(missing_ok=True)
        else:
            self._files.state.unlink(missing_ok=True)
        logger.info("stopped")

    async def _end_with_owner(self) -> None:
        """Stops where the process is no more that this stack was started for alone."""
        owner = self._files.read_owner()
        if owner is None:
            return
        while True:
            if not owner.is_alive():
                logger.info("the process for which this stack was started is no more")
                self._stop_requested.set()
                return
            await asyncio.sleep(OWNER_INTERVAL_SECONDS)

    async def _is_handed_over(self) -> bool:
        """Waits until all is to end; whether the runner is to finish what it is at."""
        asked = [
            asyncio.create_task(event.wait()) for event in (self._stop_requested, self._hand_over_requested)
        ]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        for task in asked:
            task.cancel()
        return not self._stop_requested.is_set()

    async def _hand_over(
        self,
        draining: "Kept",
        rest: "Kept",
        make_room: Callable[[], None],
        seconds: float,
        closing: "asyncio.Task[None] | None",
    ) -> None:
        """Lets the runners finish; beside them, or after them, the next stack can begin.

        `closing` are those of placements, which finish already.
        """
        logger.info("handing over; the runner finishes within %.0f s", seconds)
        for keeper, _ in draining:
            keeper.request_drain(seconds)
        finished = [*(task for _, task in draining), *([] if closing is None else [closing])]
        if not all(keeper.component.can_overlap for keeper, _ in draining):
            await self._wait_unless_stopped(finished)
        await _end_in_time(rest)
        self._has_handed_over = True
        write_json(self._files.draining(self._identity), asdict(self._identity))
        self._files.state.unlink(missing_ok=True)
        make_room()
        await self._wait_unless_stopped(finished)

    async def _wait_unless_stopped(self, tasks: "list[asyncio.Task[None]]") -> None:
        stop = asyncio.create_task(self._stop_requested.wait())
        ended = asyncio.create_task(asyncio.wait(tasks)) if tasks else None
        await asyncio.wait([stop, *([ended] if ended else [])], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()

    def _make_keeper(self, component: Component) -> ComponentKeeper:
        assert component.launcher is not None, "components elsewhere are not kept"
        log = RotatingLog(self._log_directory / f"{component.name}.log")
        self._logs[component.name] = log
        return ComponentKeeper(
            component, component.launcher, log, self._record, self._watch_process, self._policy
        )

    def _make_placements(self, placing: "Placing") -> Placements:
        def make_keeper(component: Component, on_change: Callable[[ComponentState], None]) -> ComponentKeeper:
            assert component.launcher is not None, "containers of placements are started here"
            log = self._logs[RUNNER].beside()  # what is said there is the runner's, wherever it runs
            # Many start at once, and nobody waits for the supervisor to see that they are ready.
            policy = replace(self._policy, probe_interval_seconds=PLACED_PROBE_SECONDS)
            return ComponentKeeper(component, component.launcher, log, on_change, self._watch_process, policy)

        return Placements(
            server=placing.server,
            maker=placing.maker,
            make_keeper=make_keeper,
            on_change=self._record_placements,
            idle_seconds=placing.idle_seconds,
            max_containers=placing.max_containers,
        )

    def _record_placements(self, placements: tuple[PlacementState, ...]) -> None:
        if placements != self._state.placements:
            self._state = replace(self._state, placements=placements)
            self._write_state()

    def _record(self, changed: ComponentState) -> None:
        self._state = self._state.with_component(changed)
        self._write_state()

    def _write_state(self) -> None:
        if self._has_handed_over:
            return  # the record is another supervisor's by now
        try:
            write_state(self._files.state, self._state)
        except Exception:  # a full disk must not end the components
            logger.exception("could not write the state")

    def _watch_process(self, process: ProcessIdentity, orphan_seconds: float | None) -> None:
        if orphan_seconds is not None:
            self._watched[process] = orphan_seconds
            self._tell_guard(f"+ {process.pid} {process.mark} {orphan_seconds}\n")
        else:
            self._watched.pop(process, None)
            self._tell_guard(f"- {process.pid}\n")

    def _tell_guard(self, line: str) -> None:
        if self._guard_pipe is not None:
            with contextlib.suppress(BrokenPipeError, BlockingIOError):  # another guard will be told
                os.write(self._guard_pipe, line.encode())

    async def _keep_guard(self) -> None:
        while True:
            read_end, self._guard_pipe = os.pipe()
            os.set_blocking(self._guard_pipe, False)
            try:
                for process, seconds in self._watched.items():  # before it starts: it never knows too little
                    self._tell_guard(f"+ {process.pid} {process.mark} {seconds}\n")
                await self._run_guard(read_end)
            finally:
                os.close(self._guard_pipe)
                self._guard_pipe = None
            await asyncio.sleep(self._policy.first_delay_seconds)

    async def _run_guard(self, read_end: int) -> None:
        try:
            guard = await asyncio.create_subprocess_exec(
                *GUARD_COMMAND,
                stdin=read_end,
                start_new_session=True,
                env=environment_of_guard(os.environ),
            )
        except OSError as error:
            logger.warning("the guard could not be started error=%s", error)
            await asyncio.sleep(self._policy.max_delay_seconds)
            return
        finally:
            os.close(read_end)
        try:
            await guard.wait()
        except asyncio.CancelledError:  # all has ended: there is nothing left to guard
            guard.kill()
            await guard.wait()
            raise
        logger.warning("the guard ended and is started again exit_code=%s", guard.returncode)


Kept = list[tuple[ComponentKeeper, "asyncio.Task[None]"]]


async def _end_in_time(kept: Kept, closing: "asyncio.Task[None] | None" = None) -> None:
    """Ends components in reverse order, and gives up in time. `closing` ends beside the last, the runner."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            for keeper, task in reversed(kept):
                keeper.request_stop()
                await asyncio.wait([task] if closing is None else [task, closing])


def _read_seconds(path: Path) -> float:
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0.0


def _initial_state(component: Component) -> ComponentState:
    phase = ComponentPhase.STARTING if component.launcher else ComponentPhase.EXTERNAL
    return ComponentState(component.name, component.address, phase, version=component.version)


class _LogHandler(logging.Handler):
    """Puts the supervisor's own messages into a log file like the components'."""

    def __init__(self, log: RotatingLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).splitlines():
            self._log.write_line(line)


def run_detached(make_supervisor: Callable[[], Supervisor], files: StackFiles, log_directory: Path) -> int:
    """Leaves the starter behind; answers in the starter whether the supervisor runs (0) or not (1).

    Does not return in the supervisor. At most one of a STIGMER_HOME runs: a second one ends at once.
    """
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(write_end)
        with os.fdopen(read_end, "rb") as answer:
            return 0 if answer.read() == b"running" else 1
    os.close(read_end)
    os.setsid()
    exit_code = 1
    try:
        lock = FileLock(files.supervisor_lock)
        if lock.acquire():
            _configure_logging(log_directory)
            asyncio.run(_run(make_supervisor, write_end, lock.release))
            exit_code = 0
    except BaseException:
        logger.exception("the supervisor ended unexpectedly")
    finally:
        logging.shutdown()
        os._exit(exit_code)


async def _run(
    make_supervisor: Callable[[], Supervisor], write_end: int, make_room: Callable[[], None]
) -> None:
    def tell_starter() -> None:
        os.write(write_end, b"running")
        os.close(write_end)

    await make_supervisor().run(tell_starter, make_room)


def _configure_logging(log_directory: Path) -> None:
    handler = _LogHandler(RotatingLog(log_directory / "supervisor.log"))
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _placing(configuration: "Configuration", files: StackFiles) -> Placing:
    from stigmer_cli.stack.placement_maker import ContainerPlacements, max_containers

    return Placing(
        LocalServer(LOOPBACK, configuration.server_port, files.token),
        ContainerPlacements(configuration),
        configuration.runner_idle_after.total_seconds(),
        configuration.runner_max_containers or max_containers(),
    )


def main() -> int:
    """Runs the stack that the configuration describes."""
    protect_process()  # before it is given the runner's keys
    receive_environment(os.environ)
    from stigmer_cli.config import load_configuration
    from stigmer_cli.runner.choice import has_plan
    from stigmer_cli.stack.local_components import local_components
    from stigmer_cli.stack.model_settings import model_fingerprint

    configuration = load_configuration(os.environ)
    files = StackFiles(configuration)
    token = files.token.read_text(encoding="ascii").strip()

    def make_supervisor() -> Supervisor:
        return Supervisor(
            local_components(configuration),
            files,
            configuration.log_directory,
            version=program_version(),
            model_fingerprint=model_fingerprint(configuration, token),
            placing=_placing(configuration, files) if has_plan(configuration) else None,
        )

    return run_detached(make_supervisor, files, configuration.log_directory)


if __name__ == "__main__":
    sys.exit(main())
