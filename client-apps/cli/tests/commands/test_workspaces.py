"""Which directories `stigmer run --workspace` takes: asked of the real command."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import stigmer_cli
from cli_harness import Command, Server

MANIFEST = """
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {name: helper}
spec: {instructions: Help., model: "openai:gpt-5"}
"""


@pytest.fixture
def person(command: Command, tmp_path: Path) -> Command:
    """The command for a person with a home of their own."""
    home = tmp_path / "ann"
    for name in (".ssh", ".config/app", "notes", ".stigmer/data/workspace/ses_other", ".stigmer/run"):
        (home / name).mkdir(parents=True, exist_ok=True)
    (command.folder / "agent.yaml").write_text(MANIFEST, encoding="utf-8")
    environment = {name: value for name, value in command.environment.items() if name != "STIGMER_HOME"}
    return Command(environment | {"HOME": str(home)}, command.folder)


SOURCE = str(Path(stigmer_cli.__file__).parent)


@pytest.mark.parametrize(
    ("directory", "reason"),
    [
        ("~", "it is a home directory as a whole"),
        ("~/..", "it holds a home directory as a whole"),
        ("/", "it holds a home directory as a whole"),
        ("~/.ssh", "it is a hidden directory of a home"),
        ("~/.config/app", "it lies in a hidden directory of a home"),
        ("~/.stigmer", "it is Stigmer's own state"),
        ("~/notes/link", "it is a hidden directory of a home"),
        ("/etc", "it is a directory of the system"),
        ("/opt", "it is a directory of the system"),
        ("/var/tmp", "it is a directory for everybody's temporary files"),
        (sys.prefix, "it is the installation of Stigmer"),
        (sysconfig.get_path("purelib"), "it is the installation of Stigmer"),
        (SOURCE, "it lies in the installation of Stigmer"),
        (str(Path(SOURCE).parents[3]), "it holds the installation of Stigmer"),
    ],
)
def test_what_no_agent_may_be_given_is_refused_before_anything_starts(
    directory: str, reason: str, person: Command
) -> None:
    home = Path(person.environment["HOME"])
    (home / "notes" / "link").symlink_to(home / ".ssh")

    result = person.run("run", ".", "Hi", "--workspace", directory)

    first, _, rest = result.stderr.partition("\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert first.startswith("error: could not use the workspace '") and f"': {reason}" in first
    assert "hint: " in rest
    assert not (home / ".stigmer" / "data" / "stigmer.db").exists()


@pytest.mark.parametrize("part", [".", "data", "data/workspace", "data/workspace/ses_other", "run", ".."])
def test_own_state_elsewhere_is_refused_too(part: str, person: Command, tmp_path: Path) -> None:
    state = tmp_path / "state" / "stigmer"
    (state / "data" / "workspace" / "ses_other").mkdir(parents=True)
    (state / "run").mkdir()
    placed = Command(person.environment | {"STIGMER_HOME": str(state)}, person.folder)

    result = placed.run("run", ".", "Hi", "--workspace", str(state / part))

    assert (result.exit_code, result.stdout) == (2, "")
    assert "Stigmer's own state" in result.stderr or "all sessions' own files" in result.stderr


def test_a_persons_own_directory_and_a_link_to_it_are_taken(
    server: Server, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = tmp_path_factory.mktemp("own")
    (own / "project").mkdir()
    (own / "link").symlink_to("project")
    (command.folder / "agent.yaml").write_text(MANIFEST, encoding="utf-8")

    for name in ("project", "link", "link/../project"):
        result = command.run("run", ".", "Hi", "--detach", "--workspace", str(own / name))

        assert result.exit_code == 0, result.stderr
        execution = server.client.get_execution(result.stdout.strip())
        session = server.client.get_session(execution.session_id)
        assert session.workspace == str(own / "project")


NOTHING, NO_DIRECTORY = "there is no such directory", "it is not a directory|Not a directory"
CIRCLE = "Too many levels of symbolic links|its links lead in a circle"
ODDITIES = {
    "{folder}/nothing": NOTHING,
    "{folder}/dangling": NOTHING,
    "{folder}/plain": NO_DIRECTORY,
    "{folder}/plain/x": NO_DIRECTORY,
    "{folder}/fifo": NO_DIRECTORY,
    "{folder}/loop": CIRCLE,
    "{folder}/loop/x": CIRCLE,
    "{folder}/caf\udce9": "its name is not valid UTF-8",
    f"/{'a' * 300}": "File name too long",
    "/tmp/../tmp" * 1000: f"File name too long|{NOTHING}",
    "~nobody-of-that-name/x": "whose home it lies in is not known",
    "/dev/null": NO_DIRECTORY,
    "/dev/fd/0": f"{NO_DIRECTORY}|{NOTHING}",
    "/dev/fd/99": NOTHING,
    "/proc/self/fd/0": f"{NO_DIRECTORY}|{NOTHING}",
    "/proc/self/root": "it holds a home directory as a whole",
    "/proc/self/cwd/../../../../../../..": "it holds a home directory as a whole",
    "/proc/self/exe": NO_DIRECTORY,
    "/proc/self/fd": "a directory of the system",
    "/proc/999999999/root": NOTHING,
    "/proc/1/root/tmp": "Permission denied|a directory for everybody's temporary files",
}
"""Paths that are no directory's, or not what they say, and what is said of each."""


@pytest.mark.parametrize("path", ODDITIES, ids=range(len(ODDITIES)))
def test_whatever_a_path_is_one_line_says_what_is_wrong(path: str, person: Command) -> None:
    folder = person.folder
    (folder / "plain").write_text("", encoding="utf-8")
    for link, target in (("loop", "pool"), ("pool", "loop"), ("dangling", "nowhere")):
        (folder / link).symlink_to(target)
    os.mkfifo(folder / "fifo")
    (folder / "caf\udce9").mkdir()

    result = person.run("run", ".", "Hi", "--workspace", path.format(folder=folder))

    first, _, rest = result.stderr.partition("\n")
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert first.startswith("error: could not use the workspace ")
    assert re.search(ODDITIES[path], first), first
    assert len(first) < 400
    assert rest.startswith("\nhint: ")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the working directory so")
def test_from_a_directory_that_is_gone_one_line_says_so(person: Command) -> None:
    gone = person.folder / "gone"
    script = 'mkdir "$0" && cd "$0" && rmdir "$0" && exec "$@"'
    argv = ["sh", "-c", script, str(gone), sys.executable, "-m", "stigmer_cli", "run", "helper", "Hi"]
    for path in (".", "..", "x", "/proc/self/cwd"):
        done = subprocess.run(
            [*argv, "--workspace", path], env=person.environment, capture_output=True, text=True, check=False
        )
        first, _, rest = done.stderr.partition("\n")
        assert (done.returncode, first) == (
            2,
            f"error: could not use the workspace {path!r}: there is no such directory",
        )
        assert rest.startswith("\nhint: ")
