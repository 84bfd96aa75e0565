"""What a session's commands may have of processes, and that another's find as many meanwhile."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from bubblewrap import working_bubblewrap
from stigmer_isolation.errors import CommandKilled
from stigmer_isolation.launcher import CommandLauncher, CommandResult

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are counted on Linux only")

COMMAND_SECONDS = 200.0
SHARE = 64


@pytest.fixture(params=["as it is", "in bubblewrap"])
async def launcher(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[CommandLauncher]:
    """One whose sessions may have few processes."""
    root = tmp_path / "temporary"
    root.mkdir()
    async with CommandLauncher(temporary_root=root) as launcher:
        launcher.bubblewrap = working_bubblewrap() if request.param == "in bubblewrap" else None
        launcher.policy = launcher.policy._replace(session_processes=SHARE)
        yield launcher


async def run(launcher: CommandLauncher, directory: Path, script: str) -> CommandResult:
    """Run a shell script as a command of the session that has this directory."""
    await asyncio.to_thread(directory.mkdir, exist_ok=True)
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return await launcher.run(
            ["bash", "-c", script],
            directory=opened,
            environment={"PYTHON": sys.executable},
            timeout_seconds=COMMAND_SECONDS,
        )
    finally:
        os.close(opened)


BOMBS = {
    "fork bomb": "bomb() { bomb | bomb & }; bomb; sleep 1000",
    "slow growth": "while :; do sleep 1000 & sleep 0.01; done",
    "daemons": "while :; do setsid -f sleep 1000; done",
    "threads": """"$PYTHON" -c '
import threading
stop = threading.Event()
for _ in range(200): threading.Thread(target=stop.wait, daemon=True).start()
stop.wait()'""",
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_command_with_more_processes_than_its_session_may_have_is_killed_and_told(
    launcher: CommandLauncher, tmp_path: Path, bomb: str
) -> None:
    other = asyncio.create_task(
        run(launcher, tmp_path / "other", "until [ -e end ]; do $PYTHON -c 0 || echo failed; done")
    )
    with pytest.raises(CommandKilled, match=f"limit of processes: .* more than {SHARE} processes"):
        await run(launcher, tmp_path / "one", BOMBS[bomb])
    (tmp_path / "other/end").touch()
    assert await other == CommandResult(0, "", "")
    assert (await run(launcher, tmp_path / "one", "echo on")).stdout == "on\n"


async def test_what_all_commands_of_a_session_have_counts_together(
    launcher: CommandLauncher, tmp_path: Path
) -> None:
    script = "for i in {1..%d}; do sleep 1000 & done; until [ -e end ]; do sleep 0.1; done; kill $(jobs -p)"
    commands = [asyncio.create_task(run(launcher, tmp_path / "one", script % count)) for count in (30, 50)]
    with pytest.raises(CommandKilled, match="limit of processes"):
        await commands[1]  # it has the most
    (tmp_path / "one/end").touch()
    assert (await commands[0]).exit_code == 0


async def test_other_sessions_do_not_count_and_none_does_without_a_limit(
    launcher: CommandLauncher, tmp_path: Path
) -> None:
    script = "for i in {1..%d}; do sleep 1000 & done; kill $(jobs -p)"
    both = await asyncio.gather(*(run(launcher, tmp_path / name, script % 50) for name in "ab"))
    launcher.policy = launcher.policy._replace(session_processes=None)
    many = await run(launcher, tmp_path / "a", script % 200)
    assert [one.exit_code for one in (*both, many)] == [0, 0, 0]
