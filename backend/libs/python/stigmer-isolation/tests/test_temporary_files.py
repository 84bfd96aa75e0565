"""What commands write, whatever they do to keep or hide it: it goes with them, and it counts."""

import asyncio
import fcntl
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from bubblewrap import working_bubblewrap
from disk_attacks import FILLING, KEEPING, WRITE
from stigmer_isolation.command_environment import command_environment
from stigmer_isolation.disk_quota import DiskQuotas
from stigmer_isolation.errors import CommandKilled
from stigmer_isolation.launcher import CommandLauncher, CommandResult
from stigmer_isolation.temporary_root import TemporaryRoot
from stigmer_isolation.zygote import main as zygote
from stigmer_isolation.zygote.tree_removal import remove_tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can isolate commands")

COMMAND_SECONDS = 100.0
BOUND_SECONDS = 60.0
QUOTA_BYTES = 64 << 20


@pytest.fixture(params=["as it is", "in bubblewrap"])
async def launcher(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[CommandLauncher]:
    """One with a small quota and a root for temporary directories of its own."""
    root = tmp_path / "temporary"
    root.mkdir()
    async with CommandLauncher(
        command_environment(os.environ), temporary_root=root, quotas=DiskQuotas(QUOTA_BYTES)
    ) as launcher:
        launcher.bubblewrap = working_bubblewrap() if request.param == "in bubblewrap" else None
        yield launcher


async def run(
    launcher: CommandLauncher, tmp_path: Path, script: str, *, persons_own: bool = False
) -> CommandResult:
    """Run a shell script as a command of a session, or in a directory of a person's own."""
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir(exist_ok=True)
    home.mkdir(exist_ok=True)
    opened = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return await launcher.run(
            ["bash", "-c", script],
            directory=opened,
            environment={"PYTHON": sys.executable, "HOME": str(home if persons_own else work)},
            timeout_seconds=COMMAND_SECONDS,
            writable=[home] if persons_own else [],
        )
    finally:
        os.close(opened)


def left_in(tmp_path: Path) -> list[Path]:
    """The temporary directories that are there."""
    return [path for root in (tmp_path / "temporary").iterdir() for path in root.iterdir()]


@pytest.mark.parametrize("way", KEEPING)
async def test_temporary_files_go_with_their_command(
    way: str, launcher: CommandLauncher, tmp_path: Path
) -> None:
    result = await run(launcher, tmp_path, f"cd $TMPDIR\n{KEEPING[way]}\necho done")
    assert result.stdout == "done\n", result.stderr
    async with asyncio.timeout(BOUND_SECONDS):
        while left_in(tmp_path):  # noqa: ASYNC110 - a thread that goes on raises no event
            await asyncio.sleep(0.02)


async def test_what_the_supervisor_has_no_time_for_the_launcher_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not remove_tree(str(make_deep_tree(tmp_path / "tree")), seconds=0.0)
    assert (tmp_path / "tree").exists()
    assert remove_tree(str(tmp_path / "tree"))
    assert zygote.REMOVAL_SECONDS < COMMAND_SECONDS


def make_deep_tree(root: Path) -> Path:
    """Deeper than a path can be long."""
    root.mkdir()
    current = os.open(root, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d" * 50, dir_fd=current)
        inner = os.open("d" * 50, os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = inner
    os.close(current)
    return root


def test_no_link_is_followed_and_nothing_outside_is_touched(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "kept").mkdir(parents=True)
    outside.chmod(0o500)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(outside)
    (tree / "file").symlink_to(outside / "kept")
    assert remove_tree(str(tree))
    assert (outside / "kept").exists()
    assert outside.stat().st_mode & 0o777 == 0o500


def test_a_directory_that_is_taken_for_abandoned_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, removed = fcntl.flock, list[Path]()

    def remove_first(descriptor: int, operation: int) -> None:
        if not removed:
            [path] = tmp_path.iterdir()
            path.rmdir()
            removed.append(path)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    root = TemporaryRoot(str(tmp_path))
    made = root.make()
    assert made is not None
    assert Path(made).parent.parent == tmp_path
    assert Path(made).parent not in removed
    root.remove()
    assert list(tmp_path.iterdir()) == []


# --- the quota ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", FILLING)
async def test_all_that_a_command_writes_counts(way: str, launcher: CommandLauncher, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "fill.py").write_text(WRITE + FILLING[way], encoding="utf-8")
    with pytest.raises(CommandKilled, match=r"killed by the disk quota.*64 MiB"):
        await run(launcher, tmp_path, '"$PYTHON" fill.py')


@pytest.mark.parametrize("place", ["$HOME", "$TMPDIR"])
async def test_beside_a_directory_of_a_persons_own_all_counts_too(
    place: str, launcher: CommandLauncher, tmp_path: Path
) -> None:
    fill = f"cd {place}; i=0; while :; do i=$((i+1)); head -c 4000000 /dev/zero >f$i; sleep 0.02; done"
    with pytest.raises(CommandKilled, match=r"killed by the disk quota.*64 MiB"):
        await run(launcher, tmp_path, fill, persons_own=True)


async def test_depth_hides_nothing_from_the_quota(launcher: CommandLauncher, tmp_path: Path) -> None:
    deep = "/".join(["d"] * 260)
    for number in range(2):
        await run(launcher, tmp_path, f"mkdir -p {deep}; head -c 30000000 /dev/zero >{deep}/f{number}")
    with pytest.raises(CommandKilled, match=r"the session's files take more than 64 MiB"):
        # Again and again: what others free on the disk at that moment can hide a single piece.
        more = f"while :; do head -c 5000000 /dev/zero >>{deep}/more; sleep 0.1; done"
        await run(launcher, tmp_path, more)
