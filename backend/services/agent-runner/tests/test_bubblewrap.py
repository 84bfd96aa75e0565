"""Bubblewrap around commands: when it is used, what it shows, and when it ends."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import psutil
import pytest

from agent_runner.commands import Commands, open_commands
from agent_runner.settings import load_settings
from agent_runner.workspace import SessionWorkspace
from bubblewrap import working_bubblewrap
from stigmer_isolation import system_programs, zygotes
from stigmer_isolation.bubblewrap import Bubblewrap
from stigmer_isolation.command_environment import command_environment
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.self_test import IsolationLevel
from stigmer_isolation.zygote.abandoned_roots import remove_abandoned_roots

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has namespaces")

BOUND_SECONDS = 20.0


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncGenerator[CommandLauncher]:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    async with CommandLauncher(temporary_root=temporary) as launcher:
        launcher.bubblewrap = working_bubblewrap()
        yield launcher


def session(root: Path, launcher: CommandLauncher, name: str = "session") -> SessionWorkspace:
    directory = root / "sessions" / name
    directory.mkdir(parents=True)
    return SessionWorkspace(directory, launcher=launcher)


def bubblewraps() -> list[psutil.Process]:
    """Those of this process, each by the program that waits for its end."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name() == "bwrap" and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


async def until_none_is_left() -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while bubblewraps():  # noqa: ASYNC110 - other processes raise no event
            await asyncio.sleep(0.02)


async def test_commands_see_their_session_and_no_other(tmp_path: Path, launcher: CommandLauncher) -> None:
    session(tmp_path, launcher, "other")
    mine = session(tmp_path, launcher, "mine")
    root = tmp_path / "sessions"
    places = f"{root}/mine {root}/other ../other /var/lib /boot /proc/{os.getpid()}"
    seen = await mine.run(
        ["sh", "-c", f"for place in {places}; do test -e $place && echo $place; done; echo $$"]
    )
    there, pid = seen.stdout.splitlines()
    assert there == f"{tmp_path}/sessions/mine"
    assert int(pid) < 100


async def test_what_a_command_writes_is_in_the_workspace_and_the_users_own(
    tmp_path: Path, launcher: CommandLauncher
) -> None:
    mine = session(tmp_path, launcher)
    assert (await mine.run(["sh", "-c", "mkdir a; echo on >a/file; exit 3"])).exit_code == 3
    written = tmp_path / "sessions/session/a/file"
    assert written.read_text(encoding="utf-8") == "on\n"
    assert (written.stat().st_uid, written.stat().st_gid) == (os.geteuid(), os.getegid())


async def test_a_directory_of_a_persons_own_is_shown_beside_the_sessions_home(
    tmp_path: Path, launcher: CommandLauncher
) -> None:
    own, home = tmp_path / "my files, mine: ä", tmp_path / "home"
    own.mkdir()
    home.mkdir()
    (tmp_path / "link").symlink_to(own)
    workspace = SessionWorkspace(tmp_path / "link", launcher=launcher, home=home)
    done = await workspace.run(["sh", "-c", "echo on >here && echo on >$HOME/there && pwd"])
    assert done.stdout == f"{own}\n", done
    assert (own / "here").exists()
    assert (home / "there").exists()


async def test_no_file_of_a_workspace_gets_another_name_outside_of_it(
    tmp_path: Path, launcher: CommandLauncher
) -> None:
    own, home = tmp_path / "own", tmp_path / "home"
    own.mkdir()
    home.mkdir()
    (own / "file").touch()
    workspace = SessionWorkspace(own, launcher=launcher, home=home)
    assert workspace.keeps_links_in
    for place in ("$TMPDIR", "$HOME", "/dev/shm"):
        done = await workspace.run(["sh", "-c", f"ln file inside-$$ && ln file {place}/outside"])
        assert done.exit_code != 0
    assert list(home.iterdir()) == []
    assert len(list(own.glob("inside-*"))) == 3


async def test_shared_memory_is_the_sessions_own(tmp_path: Path, launcher: CommandLauncher) -> None:
    first, second = session(tmp_path, launcher, "first"), session(tmp_path, launcher, "second")
    assert (await first.run(["sh", "-c", "echo on >/dev/shm/known; cat /dev/shm/known"])).stdout == "on\n"
    assert (await second.run(["cat", "/dev/shm/known"])).exit_code == 1
    assert not Path("/dev/shm/known").exists()  # noqa: ASYNC240 - a directory in memory


async def test_one_bubblewrap_serves_a_session_and_ends_when_nothing_is_to_do(
    tmp_path: Path, launcher: CommandLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zygotes, "IDLE_SECONDS", 1.0)
    mine = session(tmp_path, launcher)
    of_the_other = set((tmp_path / "temporary").iterdir())
    for _ in range(3):
        await asyncio.gather(*(mine.run(["true"]) for _ in range(3)))
    assert len(bubblewraps()) == 1
    [temporary] = set((tmp_path / "temporary").iterdir()) - of_the_other
    await until_none_is_left()
    async with asyncio.timeout(BOUND_SECONDS):
        while temporary.exists():  # noqa: ASYNC110 - it goes a moment later
            await asyncio.sleep(0.02)


async def test_no_more_than_some_bubblewraps_wait_for_work(
    tmp_path: Path, launcher: CommandLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zygotes, "MAX_IDLE", 2)
    for number in range(4):
        await session(tmp_path, launcher, str(number)).run(["true"])
    async with asyncio.timeout(BOUND_SECONDS):
        while len(bubblewraps()) > 2:  # noqa: ASYNC110 - other processes raise no event
            await asyncio.sleep(0.02)
    assert len(bubblewraps()) == 2


async def test_a_directory_that_is_made_anew_gets_a_bubblewrap_of_its_own(
    tmp_path: Path, launcher: CommandLauncher
) -> None:
    mine = session(tmp_path, launcher)
    directory = tmp_path / "sessions/session"
    await mine.run(["true"])
    directory.rename(tmp_path / "elsewhere")
    directory.mkdir()
    await mine.run(["sh", "-c", "echo on >file"])
    assert [path.name for path in directory.iterdir()] == ["file"]


async def test_a_bubblewrap_that_is_killed_is_replaced(tmp_path: Path, launcher: CommandLauncher) -> None:
    mine = session(tmp_path, launcher)
    await mine.run(["true"])
    [bubblewrap] = bubblewraps()
    [zygote] = bubblewrap.children()
    zygote.kill()
    await until_none_is_left()
    assert (await mine.run(["echo", "again"])).stdout == "again\n"


RUNNER = """
import asyncio, os, sys
from pathlib import Path
from agent_runner.workspace import SessionWorkspace
from stigmer_isolation.bubblewrap import Bubblewrap
from stigmer_isolation.launcher import CommandLauncher

async def main():
    async with CommandLauncher(temporary_root=Path(sys.argv[1])) as launcher:
        launcher.bubblewrap = Bubblewrap.find()
        await SessionWorkspace(Path(sys.argv[2]), launcher=launcher).run(["true"])
        print("ran", flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


async def test_what_a_killed_runner_leaves_is_removed_and_nothing_of_a_living_one(
    tmp_path: Path, launcher: CommandLauncher
) -> None:
    temporary = tmp_path / "temporary"
    (tmp_path / "work").mkdir()
    await session(tmp_path, launcher).run(["true"])
    kept = set(temporary.iterdir())
    argv = [sys.executable, "-c", RUNNER, str(temporary), str(tmp_path / "work")]
    runner = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert runner.stdout is not None
    async with asyncio.timeout(BOUND_SECONDS):
        assert await runner.stdout.readline() == b"ran\n"
    remove_abandoned_roots(str(temporary))
    assert len(set(temporary.iterdir()) - kept) == 2  # of its zygote in bubblewrap, and of the other
    runner.kill()
    await runner.wait()
    # By what outlives it: there may be no next runner.
    async with asyncio.timeout(BOUND_SECONDS):
        while set(temporary.iterdir()) != kept:  # noqa: ASYNC110 - other processes raise no event
            await asyncio.sleep(0.02)


# --- whether it is used -----------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Path]:
    """A directory of programs, for `PATH`."""
    directory = tmp_path / "programs"
    directory.mkdir()
    yield directory


async def opened(root: Path) -> tuple[Commands, bool]:
    """Commands as the runner opens them with that root, and whether they run in bubblewrap."""
    settings = load_settings({"STIGMER_TOKEN": "none", "SANDBOX_ROOT_DIR": str(root)})
    async with open_commands(settings, command_environment(os.environ)) as commands:
        return commands, commands.launcher.bubblewrap is not None


async def test_bubblewrap_is_used_where_it_works(tmp_path: Path) -> None:
    working_bubblewrap()
    commands, in_bubblewrap = await opened(tmp_path)
    assert (commands.isolation.found.no_bubblewrap_because, in_bubblewrap) == (None, True)
    assert commands.isolation.level is IsolationLevel.FULL
    assert bubblewraps() == []


async def test_where_it_is_missing_commands_run_without_and_that_is_said(
    programs: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_programs, "SYSTEM_DIRECTORIES", (str(programs),))
    with caplog.at_level("INFO"):
        commands, in_bubblewrap = await opened(programs)
    assert (commands.isolation.level, in_bubblewrap) == (IsolationLevel.FULL, False)
    said = "isolation of commands: full, without bubblewrap (it is not installed)"
    assert said in [record.getMessage() for record in caplog.records]
    assert commands.isolation.to_json()["bubblewrap"] is False


async def test_one_that_hides_nothing_is_found_out(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Runs what follows `--`, which is what a bubblewrap that isolates nothing would do.
    stand_in = programs / "bwrap"
    stand_in.write_text(
        '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n', encoding="utf-8"
    )
    stand_in.chmod(0o755)
    monkeypatch.setattr(Bubblewrap, "find", lambda: Bubblewrap(str(stand_in)))
    commands, in_bubblewrap = await opened(programs)
    assert not in_bubblewrap
    assert commands.isolation.found.no_bubblewrap_because == (
        "a command could use another program's shared memory"
    )
    assert commands.isolation.level is IsolationLevel.FULL


OPEN = """
import asyncio, os, sys
from agent_runner.commands import open_commands
from agent_runner.settings import load_settings

async def main():
    settings = load_settings({"STIGMER_TOKEN": "none", "SANDBOX_ROOT_DIR": sys.argv[1]})
    async with open_commands(settings, {"PATH": os.environ["PATH"]}) as commands:
        print(commands.isolation.level, commands.isolation.found.no_bubblewrap_because)

asyncio.run(main())
"""


def test_where_namespaces_are_forbidden_commands_run_without(tmp_path: Path) -> None:
    working_bubblewrap()
    unshare = shutil.which("unshare")
    assert unshare is not None
    # In a namespace of its own a limit can be set that holds for nobody else.
    forbid = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    argv = [unshare, "--user", "--map-root-user", "sh", "-c", forbid, "sh", sys.executable, "-c", OPEN]
    argv.append(str(tmp_path))
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    level, _, reason = done.stdout.partition(" ")
    assert level == "full", done.stdout
    # An ordinary user's namespace has no root, whose the program is: then it is not trusted.
    assert "bwrap: " in reason or (os.getuid() != 0 and reason == "it is not installed\n")
