"""`stigmer executions download`: files of agents are written where the person wants them, nowhere else."""

import hashlib
import json
from pathlib import Path

import pytest

from cli_harness import Command, Leg, Server, finish
from stigmer_cli.commands.downloads import write_beneath
from stigmer_cli.errors import StigmerError
from stigmer_contract import events
from stigmer_contract.artifacts import Artifact, LeftOutFile


def leave(server: Server, leg: Leg, **files: bytes) -> list[Artifact]:
    """Has the execution end with such files; `__` in a name is a `/`, and `_` a dot."""
    kept = [
        Artifact(
            path=name.replace("__", "/").replace("_", "."),
            sha256=server.client.upload_blob(content),
            size_bytes=len(content),
        )
        for name, content in files.items()
    ]
    leg.append(
        events.ArtifactsCollected(
            files=kept, left_out=[LeftOutFile(path="big", reason="it is larger than 64 MiB")]
        ),
        events.ExecutionCompleted(output=events.InlinePayload(value="Done.")),
    )
    return kept


def run_and_leave(command: Command, server: Server, **files: bytes) -> str:
    execution_id = command.run("run", ".", "Write.", "--detach").stdout.strip()
    leave(server, server.take_execution(execution_id), **files)
    return execution_id


def test_all_files_are_written_beneath_a_directory_of_the_execution_s_name(
    command: Command, server: Server
) -> None:
    execution_id = run_and_leave(command, server, report_md=b"# Report", out__a_bin=b"\x00\xff")

    written = command.run("executions", "download", execution_id[-6:])

    assert (written.exit_code, written.stdout) == (0, f"{execution_id}/report.md\n{execution_id}/out/a.bin\n")
    folder = command.folder / execution_id
    assert ((folder / "report.md").read_bytes(), (folder / "out/a.bin").read_bytes()) == (
        b"# Report",
        b"\x00\xff",
    )
    again = command.run("executions", "download", execution_id)
    assert again.exit_code == 1
    assert again.stderr == (
        f"error: could not write '{execution_id}/report.md': it is there already\n\n"
        "hint: pass --force to replace it\n"
    )
    assert command.run("executions", "download", execution_id, "--force").exit_code == 0


def test_one_file_is_written_here_elsewhere_or_to_stdout(command: Command, server: Server) -> None:
    execution_id = run_and_leave(command, server, out__a_txt=b"text\n")

    assert command.run("executions", "download", "--last", "out/a.txt").stdout == "a.txt\n"
    assert command.run("executions", "download", execution_id, "out/a.txt", "-o", "-").stdout == "text\n"
    written = command.run("executions", "download", execution_id, "out/a.txt", "-o", "there", "--json")
    assert json.loads(written.stdout) == [
        {
            "path": "out/a.txt",
            "sha256": hashlib.sha256(b"text\n").hexdigest(),
            "size_bytes": 5,
            "masked": False,
            "file": "there/a.txt",
        }
    ]
    assert (command.folder / "there" / "a.txt").read_bytes() == b"text\n"
    missing = command.run("executions", "download", execution_id, "b.txt")
    assert (missing.exit_code, missing.stderr) == (
        1,
        f"error: {execution_id} left no file 'b.txt' behind\n\nhint: there are: out/a.txt\n",
    )
    assert command.run("executions", "download", execution_id, "-o", "-").exit_code == 2


def test_where_nothing_was_left_that_is_said(command: Command, server: Server) -> None:
    execution_id = command.run("run", ".", "Write.", "--detach").stdout.strip()
    early = command.run("executions", "download", execution_id)
    assert early.stderr == f"error: could not download files of {execution_id}: it has not ended\n"
    server.take_execution(execution_id).complete("Done.")
    late = command.run("executions", "download", execution_id)
    assert (late.exit_code, late.stderr) == (
        1,
        f"error: could not download files of {execution_id}: it left no files behind\n\n"
        "hint: name the files to keep in `spec.artifacts` of the agent\n",
    )


def test_a_run_tells_what_was_kept_and_what_not(command: Command, server: Server) -> None:
    running = command.start("run", ".", "Write.")
    leg = server.take_execution()
    leave(server, leg, report_md=b"# Report")
    result = finish(running)
    assert result.exit_code == 0
    assert "kept report.md (8 B)" in result.stderr
    assert "warning: not kept: big (it is larger than 64 MiB)" in result.stderr
    shown = command.run("executions", "get", leg.execution_id).stdout
    assert "kept report.md (8 B)\n           not kept: big (it is larger than 64 MiB)" in shown


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", "a//b", "a/./b", "..", "a\0b"])
def test_no_name_leads_out_of_the_directory(tmp_path: Path, path: str) -> None:
    target = tmp_path / "target"
    with pytest.raises(StigmerError, match="no path beneath a directory"):
        write_beneath(target, path, b"x", replaces=True)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("replaces", [False, True])
def test_links_beneath_the_directory_are_not_followed(tmp_path: Path, replaces: bool) -> None:
    target, outside = tmp_path / "target", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (outside / "file").write_bytes(b"mine")
    (target / "folder").symlink_to(outside)
    (target / "file").symlink_to(outside / "file")

    with pytest.raises(StigmerError):
        write_beneath(target, "folder/file", b"x", replaces=replaces)
    if replaces:
        write_beneath(target, "file", b"x", replaces=True)
        assert not (target / "file").is_symlink()
    else:
        with pytest.raises(StigmerError, match="there already"):
            write_beneath(target, "file", b"x", replaces=False)

    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"file": b"mine"}
    assert sorted(path.name for path in target.iterdir()) == ["file", "folder"]
