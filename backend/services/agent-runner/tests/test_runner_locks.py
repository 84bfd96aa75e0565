"""The next leg starts nothing before the commands of a dead runner on this machine have ended."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from agent_runner import runner_locks
from agent_runner.runner_locks import RunnerLocks
from stigmer_contract.runner_names import MARKER_BYTES
from stigmer_isolation.launcher import CommandLauncher

RUNNER = """
import asyncio, os, sys
from pathlib import Path
from agent_runner.runner_locks import RunnerLocks
from stigmer_isolation.launcher import CommandLauncher

async def main() -> None:
    locks = RunnerLocks(Path(sys.argv[1]), "dead")
    held = locks.hold()
    async with CommandLauncher(held=[held], tell_in_hand=locks.tell_in_hand) as launcher:
        directory = os.open(sys.argv[1], os.O_RDONLY)
        command = "echo started >&2; touch started; exec sleep 600"
        await launcher.run(["sh", "-c", command], directory=directory, environment={}, timeout_seconds=None)

asyncio.run(main())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="commands are held on Linux only")
async def test_commands_that_outlive_their_runner_are_waited_for(tmp_path: Path) -> None:
    runner = await asyncio.create_subprocess_exec(sys.executable, "-c", RUNNER, str(tmp_path))
    try:
        async with asyncio.timeout(30):
            while not (tmp_path / "started").exists():  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.02)
        locks = RunnerLocks(tmp_path, "next")
        watchers = psutil.Process(runner.pid).children()
        for watcher in watchers:  # as where the machine is so busy that they come to nothing
            watcher.suspend()
        runner.kill()
        await runner.wait()

        waiting = asyncio.create_task(locks.wait_for_ends(["dead", "never-heard-of", "next"]))
        done, _ = await asyncio.wait({waiting}, timeout=0.5)
        assert not done

        for watcher in watchers:
            watcher.resume()
        await asyncio.wait_for(waiting, 10)
        assert not [one for one in watchers if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    finally:
        if runner.returncode is None:
            runner.kill()
            await runner.wait()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells that a process is stopped")
async def test_commands_of_a_runner_that_is_stopped_are_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner_locks, "WAIT_SECONDS", 3600.0)
    monkeypatch.setattr(runner_locks, "STOPPED_SECONDS", 0.1)
    runner = await asyncio.create_subprocess_exec(sys.executable, "-c", RUNNER, str(tmp_path))
    try:
        async with asyncio.timeout(120):
            while not (tmp_path / "started").exists():  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.02)
        waiting = asyncio.create_task(RunnerLocks(tmp_path, "next").wait_for_ends(["dead"]))
        done, _ = await asyncio.wait({waiting}, timeout=0.5)
        assert not done  # it runs, and may end its command

        os.kill(runner.pid, signal.SIGSTOP)
        await asyncio.wait_for(waiting, 120)
        assert "dead still live" in caplog.text
    finally:
        runner.kill()
        await runner.wait()


async def test_commands_that_never_end_are_waited_for_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_locks, "WAIT_SECONDS", 0.05)
    dead = RunnerLocks(tmp_path, "dead")
    held = dead.hold()
    dead.tell_in_hand(1)
    try:
        await asyncio.wait_for(RunnerLocks(tmp_path, "next").wait_for_ends(["dead"]), 5)
    finally:
        os.close(held)


async def test_a_frozen_runner_is_waited_for_only_while_it_has_commands(tmp_path: Path) -> None:
    frozen, after = RunnerLocks(tmp_path, "frozen"), RunnerLocks(tmp_path, "next")
    held = frozen.hold()  # by the living process, as where it is stopped
    try:
        await asyncio.wait_for(after.wait_for_ends(["frozen"]), 5)

        async with CommandLauncher(held=[held], tell_in_hand=frozen.tell_in_hand) as launcher:
            directory = os.open(tmp_path, os.O_RDONLY)
            running = asyncio.create_task(
                launcher.run(
                    ["sh", "-c", "touch started; while ! test -e end; do sleep 0.02; done"],
                    directory=directory,
                    environment={},
                    timeout_seconds=30,
                )
            )
            async with asyncio.timeout(30):
                while not (tmp_path / "started").exists():  # noqa: ASYNC110 - of another process
                    await asyncio.sleep(0.02)
            waiting = asyncio.create_task(after.wait_for_ends(["frozen"]))
            done, _ = await asyncio.wait({waiting}, timeout=0.2)
            assert not done

            (tmp_path / "end").touch()
            assert (await running).exit_code == 0
            await asyncio.wait_for(waiting, 5)
            os.close(directory)
    finally:
        os.close(held)


async def test_a_runner_that_does_not_say_whether_it_has_commands_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner_locks, "WAIT_SECONDS", 0.05)
    held = RunnerLocks(tmp_path, "older").hold()
    os.ftruncate(held, MARKER_BYTES)
    try:
        await asyncio.wait_for(RunnerLocks(tmp_path, "next").wait_for_ends(["older"]), 5)
    finally:
        os.close(held)
    assert "older still live" in caplog.text


async def test_a_runner_does_not_wait_for_itself(tmp_path: Path) -> None:
    locks = RunnerLocks(tmp_path, "same")
    held = locks.hold()
    try:
        await asyncio.wait_for(locks.wait_for_ends(["same"]), 5)
    finally:
        os.close(held)


def test_old_files_that_nobody_holds_are_removed(tmp_path: Path) -> None:
    held = RunnerLocks(tmp_path, "living").hold()
    os.close(RunnerLocks(tmp_path, "dead").hold())
    try:
        for path in (tmp_path / ".runners").iterdir():
            os.utime(path, (0, 0))
        os.close(RunnerLocks(tmp_path, "new").hold())
        assert len(list((tmp_path / ".runners").iterdir())) == 2
    finally:
        os.close(held)
