"""Keeps one component running: starts it, sees when it is ready, starts it again when it ends.

Ends with the component stopped on request, or failed: it refused its settings or what it keeps, or cannot be
run at all. What lives too short is started again for ever, after a longer and longer pause.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from stigmer_cli.processes.exit_codes import EXIT_AWAY
from stigmer_cli.processes.identity import ProcessIdentity
from stigmer_cli.stack.component import Component, Launcher, RunningComponent
from stigmer_cli.stack.hang_watch import INTERVAL_SECONDS, HangWatch, take_pulse
from stigmer_cli.stack.log_files import RotatingLog
from stigmer_cli.stack.state import ComponentPhase, ComponentState

logger = logging.getLogger(__name__)

MAX_DOUBLINGS = 16
"""Of the pause; far beyond the longest one."""
_NEEDS_A_PERSON = frozenset({2, 4})
"""Exit codes by which our programs say that starting them again cannot help: their environment is wrong, or
what they keep is damaged or of a newer version."""


@dataclass(frozen=True)
class RestartPolicy:
    """When a component that ended is started again."""

    first_delay_seconds: float = 0.1
    max_delay_seconds: float = 30.0
    short_life_seconds: float = 2.0
    """A life that was ready for less than this is short. Only short lives slow restarts down."""
    probe_interval_seconds: float = 0.05
    """The first ones; later ones come after a tenth of the time so far, so that twenty starts at once do not
    take the processor from each other by being asked."""
    max_probe_interval_seconds: float = 1.0


class ComponentKeeper:
    """One component, for as long as the supervisor lives."""

    def __init__(
        self,
        component: Component,
        launcher: Launcher,
        log: RotatingLog,
        on_change: Callable[[ComponentState], None],
        on_process: Callable[[ProcessIdentity, float | None], None],
        policy: RestartPolicy,
    ) -> None:
        """`on_process` is told of each process: when it starts, with the component's `orphan_seconds`, and
        when it has ended, with None."""
        self.component = component
        self._launcher = launcher
        self._log = log
        self._on_change = on_change
        self._on_process = on_process
        self._policy = policy
        self._state = ComponentState(component.name, component.address, version=component.version)
        self._short_lives = 0
        """One after the other, up to the newest."""
        self._lives_away = 0
        """One after the other, up to the newest, that ended because what they need is away."""
        self._stop_requested = asyncio.Event()
        self._hurried = asyncio.Event()
        self._drain_seconds = 0.0

    async def keep(self) -> None:
        """Runs until `request_stop`, or until the component has failed."""
        while not self._stop_requested.is_set():
            delay_seconds = await self._live_once()
            if delay_seconds is None or self._stop_requested.is_set():
                break
            self._change(phase=ComponentPhase.RESTARTING)
            await _wait_for(self._stop_requested, delay_seconds)
            self._change(restarts=self._state.restarts + 1)
        await self._launcher.close()
        if self._state.phase is not ComponentPhase.FAILED:
            self._change(phase=ComponentPhase.STOPPED, reason=None)

    def request_stop(self) -> None:
        """Asks the component to end; it is killed after its grace."""
        self._hurried.set()
        self._stop_requested.set()

    def request_drain(self, seconds: float) -> None:
        """Asks the component to finish what it is at and end; after so long it is stopped all the same."""
        self._drain_seconds = seconds
        self._stop_requested.set()

    async def _live_once(self) -> float | None:
        """One life. Answers after how many seconds the next may begin; None: never."""
        self._log.forget_last_lines()
        # Why it ended so often stays to be seen while it is tried again.
        keeps_reason = self._short_lives > 1 or self._lives_away > 0
        self._change(phase=ComponentPhase.STARTING, reason=self._state.reason if keeps_reason else None)
        try:
            running = await self._launcher.launch(self._log.write_line)
        except OSError as error:
            self._fail(f"it could not be started: {error.strerror or error}")
            return None
        self._on_process(running.process, self.component.orphan_seconds)
        self._change(process=running.process)
        logger.info("started component=%s pid=%d", self.component.name, running.process.pid)
        ready_at, exit_code = await self._watch(running)
        self._on_process(running.process, None)
        self._change(process=None)
        return self._judge(ready_at, exit_code)

    async def _watch(self, running: RunningComponent) -> tuple[float | None, int]:
        """Until its end. Answers when it was ready first, by the monotonic clock, and its exit code."""
        ended = asyncio.create_task(running.wait())
        ready = asyncio.create_task(self._await_ready())
        stop = asyncio.create_task(self._stop_requested.wait())
        hang = asyncio.create_task(self._await_hang(running, ready))
        try:
            await asyncio.wait([ended, stop], return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await self._end(running, ended)
            exit_code = await ended
            return (ready.result() if ready.done() else None), exit_code
        finally:
            for task in (ready, stop, hang):
                task.cancel()

    async def _await_ready(self) -> float:
        started_at, policy = time.monotonic(), self._policy
        while True:
            health = await asyncio.to_thread(self.component.probe)
            if health.ready and not self._stop_requested.is_set():
                self._change(
                    phase=ComponentPhase.READY,
                    reason=None,
                    failures=0,
                    last_lines=(),
                    version=health.version or self._state.version,
                    other_build=health.other_build,
                )
                logger.info("ready component=%s", self.component.name)
                ready_at = time.monotonic()
                await self._launcher.prepare(self._log.write_line)
                return ready_at
            if self._short_lives <= 1 and not self._lives_away:
                self._change(reason=health.reason)
            pause = min((time.monotonic() - started_at) / 10, policy.max_probe_interval_seconds)
            await asyncio.sleep(max(pause, policy.probe_interval_seconds))

    async def _await_hang(self, running: RunningComponent, ready: "asyncio.Task[float]") -> None:
        """Ends the component where it does not answer any more."""
        hang_seconds = self.component.hang_seconds
        if hang_seconds is None:
            return
        await asyncio.wait([ready])
        watch = HangWatch(hang_seconds)
        while not self._stop_requested.is_set():  # then another one may answer there
            asked_at = watch.clock()
            pulse = await asyncio.to_thread(take_pulse, self.component.address, running.process.pid)
            if watch.look(pulse, asked_at):
                logger.warning("ended since it hangs component=%s", self.component.name)
                running.end_hung(f"it did not answer for {hang_seconds:.0f} seconds, and was ended")
                return
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _end(self, running: RunningComponent, ended: "asyncio.Task[int]") -> None:
        self._change(phase=ComponentPhase.STOPPING)
        if self._drain_seconds:
            running.drain()
            hurried = asyncio.create_task(self._hurried.wait())
            await asyncio.wait(
                [ended, hurried], timeout=self._drain_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            hurried.cancel()
        running.terminate()
        done, _ = await asyncio.wait([ended], timeout=self.component.stop_seconds)
        if not done:
            logger.warning("killed after its grace component=%s", self.component.name)
            running.kill()

    def _judge(self, ready_at: float | None, exit_code: int) -> float | None:
        if self._stop_requested.is_set():
            return None
        now = time.monotonic()
        how = (
            f"it was ended by signal {-exit_code}"
            if exit_code < 0
            else f"it ended with exit code {exit_code}"
        )
        logger.warning("ended component=%s exit_code=%d", self.component.name, exit_code)
        self._lives_away = 0 if exit_code != EXIT_AWAY or ready_at is not None else self._lives_away
        if exit_code == EXIT_AWAY:
            return self._wait_for_what_is_away()
        if exit_code in _NEEDS_A_PERSON and ready_at is None:
            self._fail(how)
            return None
        # What ended in good order after it was ready was asked to: such an end is no crash.
        is_short = ready_at is None or (exit_code != 0 and now - ready_at < self._policy.short_life_seconds)
        self._short_lives = self._short_lives + 1 if is_short else 0
        if self._short_lives <= 1:
            self._change(reason=how, failures=self._short_lives, last_lines=())
            return self._policy.first_delay_seconds * self._short_lives
        doublings = min(self._short_lives - 1, MAX_DOUBLINGS)
        delay = min(self._policy.first_delay_seconds * 2**doublings, self._policy.max_delay_seconds)
        reason = f"{how}, {self._short_lives} times in a row"
        self._change(reason=reason, failures=self._short_lives, last_lines=self._log.last_lines)
        return delay

    def _wait_for_what_is_away(self) -> float:
        """No fault of the component's: it is tried again for ever, and says for what it waits."""
        delay = self._policy.first_delay_seconds * 2 ** min(self._lives_away, MAX_DOUBLINGS)
        self._lives_away += 1
        self._short_lives = 0
        reason = next(iter(self._log.last_lines[-1:]), "what it needs is away")
        self._change(reason=reason, failures=0, last_lines=())
        return min(delay, self._policy.max_delay_seconds)

    def _fail(self, reason: str) -> None:
        logger.error("failed component=%s reason=%s", self.component.name, reason)
        self._change(
            phase=ComponentPhase.FAILED, process=None, reason=reason, last_lines=self._log.last_lines
        )

    def _change(self, **changes: object) -> None:
        changed = replace(self._state, **changes)
        if changed != self._state:
            self._state = changed
            self._on_change(changed)


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
