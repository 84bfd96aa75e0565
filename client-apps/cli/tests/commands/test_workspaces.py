"""Which directories `stigmer run --workspace` takes: asked of the real command."""

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
