"""Which directories a session may be given, and what the runner does for its own protection."""

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic_ai.workspaces import WorkspaceUnavailableError

import agent_runner
from agent_runner.commands import open_commands
from agent_runner.errors import ExecutionFailure
from agent_runner.settings import RunnerSettings, load_settings
from agent_runner.workspace import (
    SessionWorkspace,
    open_named_directory,
    open_session_directory,
    session_workspace,
)
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.identifiers import SESSION_PREFIX, new_id
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.running_command import command_output_listener
from stigmer_isolation.zygote.landlock import abi_version


def refused(caught: pytest.ExceptionInfo[ExecutionFailure]) -> tuple[ErrorCode, str, str | None]:
    return caught.value.code, caught.value.message, caught.value.hint


def test_a_session_gets_a_directory_of_its_own_and_finds_it_again(tmp_path: Path) -> None:
    root, session_id = tmp_path / "new" / "root", new_id(SESSION_PREFIX)
    directory = open_session_directory(root, session_id)
    assert directory == root / session_id
    assert [stat.S_IMODE(path.stat().st_mode) for path in (root, directory)] == [0o700, 0o700]
    (directory / "kept").touch()
    assert [path.name for path in open_session_directory(root, session_id).iterdir()] == ["kept"]


async def test_a_command_that_closes_its_directory_shuts_no_later_one_out(tmp_path: Path) -> None:
    own, given = new_id(SESSION_PREFIX), tmp_path / "given"
    given.mkdir()
    async with CommandLauncher() as launcher:
        alone = SessionWorkspace(open_session_directory(tmp_path, own), launcher=launcher)
        beside = SessionWorkspace(given, launcher=launcher, home=tmp_path / own)
        for workspace, closing in ((alone, "0 ."), (beside, "0 . ~"), (beside, "555 .")):
            await workspace.run(["sh", "-c", f"chmod {closing}"])
            await workspace.write_bytes(f"{await workspace.working_dir()}/file", b"written")
            assert (await workspace.run(["sh", "-c", "cat file; ls ~"])).stdout.startswith("written")
            for directory in (tmp_path / own, given):
                assert directory.stat().st_mode & stat.S_IRWXU == stat.S_IRWXU
    # Where the runner was killed before it could see to that.
    (tmp_path / own).chmod(0)
    assert stat.S_IMODE(open_session_directory(tmp_path, own).stat().st_mode) == stat.S_IRWXU


async def test_a_command_that_is_given_up_at_its_end_leaves_its_directory_open_to_who_still_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = (await asyncio.to_thread(tmp_path.stat)).st_ino
    begun, given_up, ended = threading.Event(), threading.Event(), threading.Event()
    used: list[int] = []

    def hold(directory: int) -> None:
        begun.set()
        given_up.wait(60)
        try:
            used.append(os.fstat(directory).st_ino)
        finally:
            ended.set()

    monkeypatch.setattr(session_workspace, "give_back_rights", hold)
    async with CommandLauncher() as launcher:
        running = asyncio.create_task(SessionWorkspace(tmp_path, launcher=launcher).run(["true"]))
        assert await asyncio.to_thread(begun.wait, 60)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        given_up.set()
        assert await asyncio.to_thread(ended.wait, 60)
    assert used == [inode]


@pytest.mark.parametrize(
    "session_id",
    ["", ".", "..", "../elsewhere", "ses_short", "exe_01k9zv5w8m3c2t4n6p8r0s2t4v", f"ses_{'a' * 25}/"],
)
def test_what_is_no_session_id_names_no_directory(session_id: str, tmp_path: Path) -> None:
    with pytest.raises(ExecutionFailure) as caught:
        open_session_directory(tmp_path / "root", session_id)
    message = f"could not open a workspace: {session_id!r} is not a session id"
    assert refused(caught) == (ErrorCode.WORKSPACE_UNAVAILABLE, message, None)
    assert not (tmp_path / "root").exists()


def test_a_link_or_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    linked, occupied = new_id(SESSION_PREFIX), new_id(SESSION_PREFIX)
    (tmp_path / linked).symlink_to(tmp_path)
    (tmp_path / occupied).touch()
    for session_id in (linked, occupied):
        with pytest.raises(ExecutionFailure, match=r"not a directory|File exists") as caught:
            open_session_directory(tmp_path, session_id)
        assert caught.value.code is ErrorCode.WORKSPACE_UNAVAILABLE


@pytest.fixture
def settings(tmp_path: Path) -> RunnerSettings:
    """A runner's, with its state in a directory of its own."""
    home = tmp_path / "stigmer"
    (home / "data" / "workspace").mkdir(parents=True)
    return load_settings(
        {
            "STIGMER_TOKEN": "t",
            "STIGMER_HOME": str(home),
            "SANDBOX_ROOT_DIR": str(home / "data" / "workspace"),
        }
    )


def why_not(path: Path | str, settings: RunnerSettings, session_id: str | None = None) -> str:
    with pytest.raises(ExecutionFailure) as caught:
        open_named_directory(str(path), session_id or new_id(SESSION_PREFIX), settings)
    code, message, hint = refused(caught)
    assert (code, bool(hint)) == (ErrorCode.WORKSPACE_UNAVAILABLE, True)
    return message


def test_a_persons_directory_is_used_as_it_is(tmp_path: Path, settings: RunnerSettings) -> None:
    (tmp_path / "real").mkdir(mode=0o750)
    session_id = new_id(SESSION_PREFIX)
    named = open_named_directory(str(tmp_path / "real"), session_id, settings)
    assert named.path == tmp_path / "real"
    assert stat.S_IMODE(named.path.stat().st_mode) == 0o750
    assert open_named_directory(str(tmp_path / "real"), session_id, settings) == named
    assert list(named.path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("relative/path", "the path is not absolute"),
        ("~/project", "the path is not absolute"),
        ("{tmp_path}/missing", "No such file or directory"),
        ("{tmp_path}/file", "Not a directory"),
        ("{tmp_path}/loop", "'{tmp_path}/loop' is a symbolic link"),
        ("{tmp_path}/link", "'{tmp_path}/link' is a symbolic link"),
        ("{tmp_path}/link/deep", "'{tmp_path}/link' is a symbolic link"),
        ("{tmp_path}/real/../real", "the path leads through `..`"),
        ("/", "it holds a home directory as a whole"),
        ("{tmp_path}", "it holds Stigmer's own state"),
        ("{tmp_path}/stigmer", "it is Stigmer's own state"),
        ("{tmp_path}/stigmer/data/workspace", "it is the directory of all sessions' own files"),
        (sys.prefix, "it is the installation of Stigmer"),
        (str(Path(agent_runner.__file__).parent), "it lies in the installation of Stigmer"),
        ("/etc", "it is a directory of the system"),
    ],
)
def test_a_directory_that_cannot_be_used_says_why_and_what_can(
    path: str, reason: str, tmp_path: Path, settings: RunnerSettings
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    named = path.format(tmp_path=tmp_path)
    expected = f"could not open the workspace {named!r}: {reason.format(tmp_path=tmp_path)}"
    assert why_not(named, settings).startswith(expected)


def test_a_directory_that_cannot_be_written_is_refused(settings: RunnerSettings, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    if os.access(tmp_path / "closed", os.W_OK):
        pytest.skip("root writes everywhere")
    assert "the runner may not write to it" in why_not(tmp_path / "closed", settings)


def test_where_roots_are_set_the_workspace_lies_in_one(tmp_path: Path, settings: RunnerSettings) -> None:
    for name in ("in", "in/deep", "inside"):
        (tmp_path / name).mkdir()
    settings = replace(settings, workspace_roots=(tmp_path / "in",))
    open_named_directory(str(tmp_path / "in" / "deep"), new_id(SESSION_PREFIX), settings)
    assert "STIGMER_WORKSPACE_ROOTS" in why_not(tmp_path / "inside", settings)


# --- what one session's commands may do to another's directory -----------------------------------


def test_a_link_that_another_session_put_in_the_place_leads_nowhere(
    tmp_path: Path, settings: RunnerSettings
) -> None:
    keys, sub = tmp_path / "keys", tmp_path / "proj" / "sub"
    for directory in (keys, sub):
        directory.mkdir(parents=True)
    session_id = new_id(SESSION_PREFIX)
    open_named_directory(str(sub), session_id, settings)
    sub.rmdir()
    sub.symlink_to(keys)
    assert "is a symbolic link" in why_not(sub, settings, session_id)
    sub.unlink()
    (tmp_path / "proj").rename(tmp_path / "aside")
    (tmp_path / "proj").symlink_to("aside")
    (tmp_path / "aside" / "sub").mkdir()
    assert "is a symbolic link" in why_not(sub, settings, session_id)


def test_another_directory_in_the_place_is_not_taken_for_the_same(
    tmp_path: Path, settings: RunnerSettings
) -> None:
    sub, session_id = tmp_path / "proj" / "sub", new_id(SESSION_PREFIX)
    sub.mkdir(parents=True)
    open_named_directory(str(sub), session_id, settings)
    sub.rename(tmp_path / "proj" / "old")
    sub.mkdir()
    assert "it is not the directory that the session began in" in why_not(sub, settings, session_id)
    open_named_directory(str(sub), new_id(SESSION_PREFIX), settings)  # a new session may
    sub.rmdir()
    (tmp_path / "proj" / "old").rename(sub)
    open_named_directory(str(sub), session_id, settings)  # put back, it is the same


async def test_a_workspace_that_is_swapped_within_a_leg_is_gone(
    tmp_path: Path, settings: RunnerSettings
) -> None:
    keys, sub = tmp_path / "keys", tmp_path / "proj" / "sub"
    for directory in (keys, sub):
        directory.mkdir(parents=True)
    (keys / "secret").write_text("canary", encoding="utf-8")
    named = open_named_directory(str(sub), new_id(SESSION_PREFIX), settings)
    async with CommandLauncher() as launcher:
        workspace = SessionWorkspace(named.path, launcher=launcher, identity=named.identity)
        await workspace.write_bytes(f"{sub}/mine", b"x")
        moved = tmp_path / "proj" / "moved"

        def swap_for_link() -> None:
            sub.symlink_to(keys)

        def swap_for_directory() -> None:
            sub.mkdir()
            (sub / "secret").write_text("canary", encoding="utf-8")

        def swap_parent() -> None:
            (tmp_path / "proj").rename(tmp_path / "aside")
            (tmp_path / "proj").symlink_to(tmp_path / "other")
            (tmp_path / "other" / "sub").mkdir(parents=True)
            (tmp_path / "other" / "sub" / "secret").write_text("canary", encoding="utf-8")

        sub.rename(moved)
        for swap in (swap_for_link, swap_for_directory, swap_parent):
            swap()
            with pytest.raises(WorkspaceUnavailableError):
                await workspace.read_bytes(f"{sub}/secret")
            with pytest.raises(WorkspaceUnavailableError):
                await workspace.run(["cat", "secret"])
            with pytest.raises(WorkspaceUnavailableError):
                await workspace.list_dir(str(sub))
            if sub.is_symlink():
                sub.unlink()
            elif not (tmp_path / "proj").is_symlink():
                shutil.rmtree(sub)
        (tmp_path / "proj").unlink()
        (tmp_path / "aside").rename(tmp_path / "proj")
        moved.rename(sub)
        assert await workspace.read_bytes(f"{sub}/mine") == b"x"


async def test_what_a_session_could_write_is_no_program_of_another_one_after_a_restart(
    tmp_path: Path, settings: RunnerSettings
) -> None:
    program = tmp_path / "proj" / ".venv" / "bin" / "tool"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho planted\n", encoding="utf-8")
    program.chmod(0o755)
    planted = program.with_name("bwrap")  # which no runner executes
    planted.write_text(f"#!/bin/sh\ntouch {tmp_path}/executed\n", encoding="utf-8")
    planted.chmod(0o755)
    variables = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    own = open_session_directory(settings.sandbox_root_dir, new_id(SESSION_PREFIX))
    exit_codes = list[int]()
    for _ in range(2):
        async with open_commands(settings, variables) as commands:
            workspace = SessionWorkspace(own, launcher=commands.launcher)
            exit_codes.append((await workspace.run(["tool"])).exit_code)
        open_named_directory(str(tmp_path / "proj"), new_id(SESSION_PREFIX), settings)
    assert exit_codes[0] == 0
    if abi_version():
        assert exit_codes[1] != 0
    assert not (tmp_path / "executed").exists()


async def test_the_temporary_directory_of_a_command_is_nobodys_workspace(
    settings: RunnerSettings, tmp_path: Path
) -> None:
    async with CommandLauncher() as launcher:
        workspace = SessionWorkspace(tmp_path, launcher=launcher)
        told = asyncio.get_running_loop().create_future()
        command_output_listener.set(lambda _, text: told.set_result(text))
        running = asyncio.create_task(workspace.run(["sh", "-c", 'cd "$TMPDIR"; pwd -P; sleep 60']))
        async with asyncio.timeout(30):
            temporary = (await told).strip()
        assert "the temporary directory of a command" in why_not(temporary, settings)
        running.cancel()
        await asyncio.wait({running})


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can make a process undumpable")
def test_a_protected_process_is_undumpable_and_its_children_are_ordinary() -> None:
    look = "import ctypes; print(ctypes.CDLL(None).prctl(3), flush=True)"  # PR_GET_DUMPABLE
    script = f"""
import subprocess, sys
from stigmer_contract.process_protection import protect_process
print(protect_process(), flush=True)
{look}
subprocess.run([sys.executable, "-c", {look!r}], check=True)
"""
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert shown.stdout.split() == ["True", "0", "1"]
