"""The file operations of a session's workspace: what they refuse, and how they fail."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path

import pytest
from pydantic_ai.workspaces import WorkspaceUnavailableError

from agent_runner.workspace import FileOperationFailed, SessionWorkspace, session_workspace
from agent_runner.workspace.isolated_files import MAX_BYTES_AT_ONCE, IsolatedFiles, NotAtOnce
from stigmer_isolation import beneath
from stigmer_isolation.launcher import CommandLauncher

SECRET = b"the other session's secret"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the workspace, with a secret in it."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "secret.txt").write_bytes(SECRET)
    return directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The workspace's directory."""
    directory = tmp_path / "session"
    directory.mkdir()
    return directory


@pytest.fixture(params=["openat2", "walk", "threads"])
async def workspace(
    root: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> SessionWorkspace:
    """The workspace, by the system call that keeps paths in, by the walk that stands in for it, and on
    a disk that may take its time."""
    if request.param == "walk":
        monkeypatch.setattr(beneath, "has_openat2", lambda: False)
    elif not beneath.has_openat2():
        pytest.skip("this kernel has no openat2")
    if request.param == "threads":

        def is_on_local_disk(_: str) -> bool:
            return False

        monkeypatch.setattr(session_workspace, "is_on_local_disk", is_on_local_disk)
    workspace = SessionWorkspace(root, launcher=CommandLauncher())
    assert await workspace.exists(str(root))  # the first operation of all goes by a thread anyway
    return workspace


def content_of(directory: Path) -> dict[str, bytes | None]:
    """What is in a directory: files with their content, anything else with None."""
    return {
        entry.name: entry.read_bytes() if entry.is_file() and not entry.is_symlink() else None
        for entry in directory.iterdir()
    }


def every_operation(workspace: SessionWorkspace, path: str) -> dict[str, Callable[[], Awaitable[object]]]:
    return {
        "read_bytes": lambda: workspace.read_bytes(path),
        "write_bytes": lambda: workspace.write_bytes(path, b"overwritten"),
        "stat": lambda: workspace.stat(path),
        "list_dir": lambda: workspace.list_dir(path),
        "make_dir": lambda: workspace.make_dir(path),
        "exists": lambda: workspace.exists(path),
    }


@pytest.mark.parametrize(
    "path",
    [
        "{root}/../outside/secret.txt",
        "{outside}/secret.txt",
        "{root}/a/../../outside/secret.txt",
        "{root}/link_to_file",
        "{root}/link_to_directory/secret.txt",
        "{root}/link_to_link",
        "{root}/environment",
        "{root}/new_through_link",
        "/etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        "/",
        "{root}-neighbour/file",
    ],
)
async def test_no_operation_reaches_outside(
    workspace: SessionWorkspace, root: Path, outside: Path, path: str
) -> None:
    (root / "a").mkdir()
    (root / "link_to_file").symlink_to(outside / "secret.txt")
    (root / "link_to_directory").symlink_to("../outside")
    (root / "link_to_link").symlink_to("link_to_file")
    (root / "environment").symlink_to("/proc/self/environ")
    (root / "new_through_link").symlink_to(outside / "new.txt")
    named = path.format(root=root, outside=outside)
    for operation in every_operation(workspace, named).values():
        with pytest.raises(PermissionError) as caught:
            await operation()
        assert str(caught.value) == f"{named!r} is outside the workspace"
    assert content_of(outside) == {"secret.txt": SECRET}


async def test_removing_reaches_nothing_outside(
    workspace: SessionWorkspace, root: Path, outside: Path
) -> None:
    (root / "link").symlink_to(outside)
    with pytest.raises(PermissionError):
        await workspace.remove(f"{root}/link/secret.txt")
    with pytest.raises(PermissionError):
        await workspace.remove(f"{outside}/secret.txt")
    (root / "tree").mkdir()
    (root / "tree" / "link").symlink_to(outside)
    await workspace.remove(f"{root}/tree")
    await workspace.remove(f"{root}/link")
    assert (content_of(root), content_of(outside)) == ({}, {"secret.txt": SECRET})


async def test_listing_shows_outward_and_broken_links_without_following_them(
    workspace: SessionWorkspace, root: Path, outside: Path
) -> None:
    (root / "directory").mkdir()
    (root / "file").write_bytes(b"12345")
    (root / "inward").symlink_to(root / "directory")
    (root / "broken").symlink_to("nowhere")
    (root / "outward").symlink_to(outside)
    entries = await workspace.list_dir(str(root))
    assert [(entry.name, entry.is_dir, entry.size) for entry in entries] == [
        ("broken", False, None),
        ("directory", True, None),
        ("file", False, 5),
        ("inward", True, None),
        ("outward", False, None),
    ]


async def test_links_that_stay_inside_work_absolute_ones_too(workspace: SessionWorkspace, root: Path) -> None:
    (root / "deep").mkdir()
    (root / "absolute").symlink_to(root / "deep")
    (root / "relative").symlink_to("absolute/../deep")
    await workspace.write_bytes(f"{root}/absolute/new/file", b"through a link")
    assert await workspace.read_bytes(f"{root}/relative/new/file") == b"through a link"


async def test_special_files_are_refused_without_waiting(workspace: SessionWorkspace, root: Path) -> None:
    os.mkfifo(root / "fifo")
    (root / "zero").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="not a regular file"):
        await workspace.read_bytes(f"{root}/fifo")
    with pytest.raises(OSError, match="not a regular file"):
        await workspace.write_bytes(f"{root}/fifo", b"data")
    with pytest.raises(PermissionError):
        await workspace.read_bytes(f"{root}/zero")
    entry = await workspace.stat(f"{root}/fifo")
    assert (entry.is_dir, entry.size) == (False, None)


async def test_impossible_paths_are_refused(workspace: SessionWorkspace, root: Path) -> None:
    for operation in every_operation(workspace, f"{root}/nul\0byte").values():
        with pytest.raises(ValueError, match=r"null (byte|character)"):  # Python 3.13 says the other
            await operation()
    for operation in every_operation(workspace, f"{root}/{'x' * 5000}").values():
        with pytest.raises(OSError, match="File name too long") as caught:
            await operation()
        assert caught.value.errno == errno.ENAMETOOLONG
    for operation in every_operation(workspace, "relative").values():
        with pytest.raises(ValueError, match="must be absolute"):
            await operation()


async def test_errors_name_the_path_that_was_asked_for(workspace: SessionWorkspace, root: Path) -> None:
    (root / "link").symlink_to("missing-target")
    with pytest.raises(FileNotFoundError) as caught:
        await workspace.read_bytes(f"{root}/link")
    assert caught.value.filename == f"{root}/link"


async def test_a_loop_of_links_is_told_as_one(workspace: SessionWorkspace, root: Path) -> None:
    (root / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links") as caught:
        await workspace.read_bytes(f"{root}/loop")
    assert caught.value.errno == errno.ELOOP
    assert not await workspace.exists(f"{root}/loop")


async def test_writing_replaces_longer_content_and_keeps_mode_and_hard_links(
    workspace: SessionWorkspace, root: Path
) -> None:
    script = root / "script.sh"
    script.write_bytes(b"a long first version")
    script.chmod(0o755)
    (root / "same").hardlink_to(script)
    await workspace.write_bytes(str(script), b"short")
    assert (root / "same").read_bytes() == b"short"
    assert script.stat().st_mode & 0o777 == 0o755


def test_what_may_take_long_is_not_begun_where_it_must_be_done_at_once(root: Path) -> None:
    large = b"x" * (MAX_BYTES_AT_ONCE + 1)
    (root / "large").write_bytes(large)
    (root / "target").write_bytes(b"content")
    (root / "link").symlink_to("target")
    patient = IsolatedFiles(str(root))
    prompt = patient.at_once()
    refused: dict[str, Callable[[], object]] = {
        "large content read": lambda: prompt.read_bytes(f"{root}/large"),
        "large content written": lambda: prompt.write_bytes(f"{root}/target", large),
        "a link read": lambda: prompt.read_bytes(f"{root}/link"),
        "a link written": lambda: prompt.write_bytes(f"{root}/link", b"changed"),
        "a link resolved": lambda: prompt.realpath(f"{root}/link"),
        "a path with dots": lambda: prompt.stat(f"{root}/../{root.name}/target"),
    }
    for operation in refused.values():
        with pytest.raises(NotAtOnce):
            operation()
    assert (root / "target").read_bytes() == b"content"
    assert prompt.read_bytes(f"{root}/target") == patient.read_bytes(f"{root}/link") == b"content"


async def test_a_removed_workspace_is_unavailable(workspace: SessionWorkspace, root: Path) -> None:
    await workspace.working_dir()
    shutil.rmtree(root)
    with pytest.raises(WorkspaceUnavailableError):
        await workspace.read_bytes(f"{root}/file")
    with pytest.raises(WorkspaceUnavailableError):
        await workspace.working_dir()


async def test_a_tree_too_deep_to_remove_is_reported(workspace: SessionWorkspace, root: Path) -> None:
    (root / "/".join(["d"] * 300)).mkdir(parents=True)
    with pytest.raises(FileOperationFailed, match="nested too deep"):
        await workspace.remove(f"{root}/d")
    assert content_of(root) == {"d": None}


@pytest.fixture
def full_disk(tmp_path: Path) -> Generator[Path]:
    """A file system of 256 KiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", directory], check=False
    ).returncode:
        pytest.skip("this environment forbids mounting")
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


async def test_a_full_disk_is_reported_and_leaves_the_old_content(full_disk: Path) -> None:
    workspace = SessionWorkspace(full_disk, launcher=CommandLauncher())
    await workspace.write_bytes(f"{full_disk}/old", b"old content")
    for name in ("old", "new"):
        with pytest.raises(FileOperationFailed) as caught:
            await workspace.write_bytes(f"{full_disk}/{name}", b"x" * (1 << 20))
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, f"{full_disk}/{name}")
    assert content_of(full_disk) == {"old": b"old content"}


async def test_directory_of_another_owner_gives_permission_error(
    workspace: SessionWorkspace, root: Path
) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (root / "closed").mkdir(mode=0)
    with pytest.raises(PermissionError):
        await workspace.list_dir(f"{root}/closed")
