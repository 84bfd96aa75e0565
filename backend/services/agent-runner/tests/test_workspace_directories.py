"""Which directories a session may be given, and what the runner does for its own protection."""

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent_runner.errors import ExecutionFailure
from agent_runner.workspace import open_named_directory, open_session_directory
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.identifiers import SESSION_PREFIX, new_id


def refused(caught: pytest.ExceptionInfo[ExecutionFailure]) -> tuple[ErrorCode, str, str | None]:
    return caught.value.code, caught.value.message, caught.value.hint


def test_a_session_gets_a_directory_of_its_own_and_finds_it_again(tmp_path: Path) -> None:
    root, session_id = tmp_path / "new" / "root", new_id(SESSION_PREFIX)
    directory = open_session_directory(root, session_id)
    assert directory == root / session_id
    assert [stat.S_IMODE(path.stat().st_mode) for path in (root, directory)] == [0o700, 0o700]
    (directory / "kept").touch()
    assert [path.name for path in open_session_directory(root, session_id).iterdir()] == ["kept"]


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


def test_a_persons_directory_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o750)
    (tmp_path / "link").symlink_to("real")
    directory = open_named_directory(str(tmp_path / "link"))
    assert directory == tmp_path / "real"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o750


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("relative/path", "the path is not absolute"),
        ("~/project", "the path is not absolute"),
        ("{tmp_path}/missing", "No such file or directory"),
        ("{tmp_path}/file", "it is not a directory"),
        ("{tmp_path}/loop", "Too many levels of symbolic links"),
        ("/", "the agent would own the whole machine"),
    ],
)
def test_a_directory_that_cannot_be_used_says_why(path: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    named = path.format(tmp_path=tmp_path)
    with pytest.raises(ExecutionFailure, match=re.escape(f"workspace {named!r}: {reason}")) as caught:
        open_named_directory(named)
    assert caught.value.code is ErrorCode.WORKSPACE_UNAVAILABLE


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    if not Path("/proc/sys").is_dir():
        pytest.skip("needs a directory that not even root can write to")
    with pytest.raises(ExecutionFailure, match="the runner may not write to it"):
        open_named_directory("/proc/sys/kernel")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can make a process undumpable")
def test_a_protected_process_is_undumpable_and_its_children_are_ordinary() -> None:
    look = "import ctypes; print(ctypes.CDLL(None).prctl(3), flush=True)"  # PR_GET_DUMPABLE
    script = f"""
import subprocess, sys
from stigmer_isolation.process_protection import protect_process
print(protect_process(), flush=True)
{look}
subprocess.run([sys.executable, "-c", {look!r}], check=True)
"""
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert shown.stdout.split() == ["True", "0", "1"]
