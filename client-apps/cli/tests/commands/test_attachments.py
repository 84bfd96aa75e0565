"""`stigmer run -a FILE`, and `@FILE` in what a person types."""

import hashlib
from pathlib import Path

import pytest

from cli_harness import Command, Server
from stigmer_cli.commands.attaching import find_mentions


def test_files_go_with_the_prompt(command: Command, server: Server) -> None:
    (command.folder / "a b.txt").write_bytes(b"text")
    (command.folder / "pixel.png").write_bytes(b"\x89PNG")

    attached = ("-a", "a b.txt", "--attach", "./pixel.png", "-a", "a b.txt")
    result = command.run("run", ".", "Look.", *attached, "--detach")

    assert result.exit_code == 0, result.stderr
    execution_id = result.stdout.strip()
    given = server.take_execution(execution_id).grant.attachments
    assert [(each.name, each.sha256, each.size_bytes) for each in given] == [
        ("a b.txt", hashlib.sha256(b"text").hexdigest(), 4),
        ("pixel.png", hashlib.sha256(b"\x89PNG").hexdigest(), 4),
    ]
    assert server.client.fetch_blob(given[0].sha256) == b"text"
    shown = command.run("executions", "get", execution_id).stdout
    assert "started: Look.\n           attached: a b.txt (4 B), pixel.png (4 B)" in shown


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("missing.txt", "could not attach 'missing.txt': No such file or directory"),
        (".", "could not attach '.': '' is not a file's name"),
        ("folder", "could not attach 'folder': Is a directory"),
        ("/dev/zero", "could not attach '/dev/zero': it is not a file"),
    ],
)
def test_what_cannot_be_attached_is_one_line(command: Command, path: str, problem: str) -> None:
    (command.folder / "folder").mkdir()
    result = command.run("run", ".", "Look.", "-a", path, "--detach")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {problem}\n")


def test_a_mention_attaches_where_a_person_types_and_nowhere_else(command: Command, server: Server) -> None:
    (command.folder / "a.txt").write_bytes(b"text")
    piped = command.run("run", ".", "Read @a.txt.", "--detach").stdout.strip()
    assert server.take_execution(piped).grant.attachments == []

    terminal = command.start_in_terminal("run", ".", "Read @a.txt.", "--detach")
    assert terminal.finish() == 0
    assert "attached: a.txt" in terminal.screen
    [execution] = server.client.list_executions(1)
    [attached] = server.take_execution(execution.execution_id).grant.attachments
    assert (attached.name, attached.size_bytes) == ("a.txt", 4)


def test_mentions_are_files_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b c.txt", "d"):
        (tmp_path / name).touch()
    prompt = '@a.txt, see @"b c.txt" and @d. Mail me@d or @nobody @ @"" @' + "x" * 5000 + " @a.txt"
    assert find_mentions(prompt) == ["a.txt", "b c.txt", "d"]
