"""Files that an agent may have left where a person's command reads them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli_harness import Command

MANIFEST = "apiVersion: agentic.stigmer.ai/v1\nkind: Agent\nmetadata: {name: a}\nspec: {instructions: Hi.}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "-f", "pipe.yaml"],
        ["apply", "-f", "pipe.yaml"],
        ["run", "./pipe.yaml", "Hi", "--model", "openai:gpt-5"],
        ["validate", "-f", "/dev/tty"],
        ["validate", "-f", "/dev/zero"],
    ],
)
def test_what_would_be_waited_for_is_no_manifest(arguments: list[str], command: Command) -> None:
    os.mkfifo(command.folder / "pipe.yaml")
    result = command.run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "could not read the manifest" in result.stderr


def test_a_pipe_is_no_cassette(command: Command) -> None:
    os.mkfifo(command.folder / "pipe.yaml")
    result = command.run("run", ".", "Hi", "--model", "replay:pipe.yaml")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: could not read the cassette '")
    assert "it is not a file" in result.stderr


def test_what_the_shell_hands_over_is_read_to_its_end(command: Command, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(MANIFEST, encoding="utf-8")
    script = f"{sys.executable} -m stigmer_cli validate -f <(cat good.yaml)"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=command.folder,
        env=command.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
