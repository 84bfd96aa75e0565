"""When a component that ended is started again, and when it is given up."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from stigmer_cli.processes.exit_codes import EXIT_AWAY
from stigmer_cli.processes.identity import ProcessIdentity
from stigmer_cli.stack.component import Component, LineSink
from stigmer_cli.stack.health import Health
from stigmer_cli.stack.keeper import ComponentKeeper, RestartPolicy
from stigmer_cli.stack.log_files import RotatingLog
from stigmer_cli.stack.state import ComponentPhase, ComponentState

WAIT_SECONDS = 60.0
QUICK = RestartPolicy(first_delay_seconds=0.001, max_delay_seconds=0.002, probe_interval_seconds=0.001)


class ScriptedLife:
    """Ends by itself with an exit code, once it was seen ready; None: only when it is asked to."""

    def __init__(self, pid: int, exit_code: int | None, probed: asyncio.Event) -> None:
        self.process = ProcessIdentity(pid, "scripted")
        self._exit_code = exit_code
        self._probed = probed
        self._asked = asyncio.Event()

    async def wait(self) -> int:
        if self._exit_code is None:
            await self._asked.wait()
            return 0
        await self._probed.wait()
        return self._exit_code

    def end_hung(self, how: str) -> None:
        self.kill()

    def drain(self) -> None:
        self.terminate()

    def terminate(self) -> None:
        self._asked.set()

    def kill(self) -> None:
        self._asked.set()


class ScriptedLauncher:
    """Gives one life for each exit code."""

    def __init__(self, exit_codes: Sequence[int | None], *, becomes_ready: bool) -> None:
        self._exit_codes = list(exit_codes)
        self._becomes_ready = becomes_ready
        self.lives = 0
        self.seen_ready = asyncio.Event()

    async def launch(self, write_line: LineSink) -> ScriptedLife:
        self.seen_ready = asyncio.Event()
        if not self._becomes_ready:
            self.seen_ready.set()
        self.lives += 1
        write_line(f"life {self.lives}")
        return ScriptedLife(self.lives, self._exit_codes[self.lives - 1], self.seen_ready)

    async def prepare(self, write_line: LineSink) -> None:
        return

    async def close(self) -> None:
        return


class Keeping:
    """A keeper with everything that it says."""

    def __init__(self, launcher: ScriptedLauncher, path: Path, policy: RestartPolicy, *, ready: bool) -> None:
        self.states: list[ComponentState] = []
        self._changed = asyncio.Event()
        self._launcher = launcher
        component = Component("server", "127.0.0.1:1", launcher, lambda: Health(ready, "not yet"))
        log = RotatingLog(path / "server.log")
        self.keeper = ComponentKeeper(component, launcher, log, self._take, lambda _, __: None, policy)

    async def reaches(self, phase: ComponentPhase, lives: int) -> None:
        """Waits until the component is in the phase, in its so-manieth life."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self._launcher.lives < lives or self.states[-1].phase is not phase:
                await self._changed.wait()
                self._changed.clear()

    def _take(self, state: ComponentState) -> None:
        self.states.append(state)
        self._changed.set()
        if state.phase is ComponentPhase.READY:
            self._launcher.seen_ready.set()


async def test_short_lives_are_followed_by_another_without_end(tmp_path: Path) -> None:
    launcher = ScriptedLauncher([1] * 30 + [-11, None], becomes_ready=False)
    keeping = Keeping(launcher, tmp_path, QUICK, ready=False)
    task = asyncio.create_task(keeping.keeper.keep())
    await keeping.reaches(ComponentPhase.STARTING, lives=32)
    last = keeping.states[-1]
    assert (last.restarts, last.failures, last.last_lines[-1]) == (31, 31, "life 31")
    assert last.reason == "it was ended by signal 11, 31 times in a row"
    keeping.keeper.request_stop()
    await asyncio.wait_for(task, WAIT_SECONDS)
    assert keeping.states[-1].phase is ComponentPhase.STOPPED


async def test_long_lives_are_followed_by_another_without_end(tmp_path: Path) -> None:
    policy = RestartPolicy(first_delay_seconds=0.001, short_life_seconds=0, probe_interval_seconds=0.001)
    launcher = ScriptedLauncher([-9] * 20 + [None], becomes_ready=True)
    keeping = Keeping(launcher, tmp_path, policy, ready=True)
    task = asyncio.create_task(keeping.keeper.keep())
    await keeping.reaches(ComponentPhase.READY, lives=21)
    keeping.keeper.request_stop()
    await asyncio.wait_for(task, WAIT_SECONDS)
    assert (keeping.states[-1].phase, keeping.states[-1].restarts) == (ComponentPhase.STOPPED, 20)


async def test_a_stop_during_the_pause_before_a_restart_is_heard(tmp_path: Path) -> None:
    policy = RestartPolicy(first_delay_seconds=3600, max_delay_seconds=3600)
    launcher = ScriptedLauncher([1], becomes_ready=False)
    keeping = Keeping(launcher, tmp_path, policy, ready=False)
    task = asyncio.create_task(keeping.keeper.keep())
    await keeping.reaches(ComponentPhase.RESTARTING, lives=1)
    keeping.keeper.request_stop()
    await asyncio.wait_for(task, WAIT_SECONDS)
    assert (keeping.states[-1].phase, launcher.lives) == (ComponentPhase.STOPPED, 1)


async def test_refused_settings_are_final_before_the_component_was_ready(tmp_path: Path) -> None:
    launcher = ScriptedLauncher([2], becomes_ready=False)
    keeping = Keeping(launcher, tmp_path, QUICK, ready=False)
    await asyncio.wait_for(keeping.keeper.keep(), WAIT_SECONDS)
    assert (keeping.states[-1].phase, launcher.lives) == (ComponentPhase.FAILED, 1)


async def test_the_same_exit_code_later_is_an_end_like_others(tmp_path: Path) -> None:
    launcher = ScriptedLauncher([2, None], becomes_ready=True)
    keeping = Keeping(launcher, tmp_path, QUICK, ready=True)
    task = asyncio.create_task(keeping.keeper.keep())
    await keeping.reaches(ComponentPhase.READY, lives=2)
    keeping.keeper.request_stop()
    await asyncio.wait_for(task, WAIT_SECONDS)


async def test_what_waits_for_an_engine_is_no_failure_and_says_for_what_it_waits(tmp_path: Path) -> None:
    launcher = ScriptedLauncher([EXIT_AWAY] * 20 + [None], becomes_ready=False)
    keeping = Keeping(launcher, tmp_path, QUICK, ready=False)
    task = asyncio.create_task(keeping.keeper.keep())
    await keeping.reaches(ComponentPhase.STARTING, lives=21)
    last = keeping.states[-1]
    assert (last.restarts, last.failures, last.last_lines, last.reason) == (20, 0, (), "life 20")
    keeping.keeper.request_stop()
    await asyncio.wait_for(task, WAIT_SECONDS)


async def test_an_end_in_good_order_of_what_was_ready_is_no_short_life(tmp_path: Path) -> None:
    launcher = ScriptedLauncher([0] * 9 + [None], becomes_ready=True)
    keeping = Keeping(launcher, tmp_path, QUICK, ready=True)
    task = asyncio.create_task(keeping.keeper.keep())
    await keeping.reaches(ComponentPhase.READY, lives=10)
    assert (keeping.states[-1].restarts, {state.failures for state in keeping.states}) == (9, {0})
    keeping.keeper.request_stop()
    await asyncio.wait_for(task, WAIT_SECONDS)


async def test_a_program_that_cannot_be_run_has_failed(tmp_path: Path) -> None:
    class Missing:
        async def launch(self, write_line: LineSink) -> ScriptedLife:
            raise FileNotFoundError(2, "No such file or directory")

        async def prepare(self, write_line: LineSink) -> None:
            return

        async def close(self) -> None:
            return

    states: list[ComponentState] = []
    component = Component("server", "127.0.0.1:1", Missing(), lambda: Health(False))
    log = RotatingLog(tmp_path / "server.log")
    keeper = ComponentKeeper(component, Missing(), log, states.append, lambda _, __: None, QUICK)
    await asyncio.wait_for(keeper.keep(), WAIT_SECONDS)
    assert (states[-1].phase, states[-1].reason) == (
        ComponentPhase.FAILED,
        "it could not be started: No such file or directory",
    )
