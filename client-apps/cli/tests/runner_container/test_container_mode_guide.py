"""What docs/container-mode.md shows is true: its commands run, and those in its text exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fenced_blocks import fenced_blocks
from stack_home import StackHome
from stigmer_cli.cli import root
from stigmer_cli.containers import Engine
from stigmer_cli.runner_container.inspection import find_own_containers

GUIDE = Path(__file__).parents[2] / "docs" / "container-mode.md"


@pytest.mark.timeout(200)
def test_the_commands_run_in_order(contained_home: StackHome, engine: Engine) -> None:
    environment = dict(contained_home.environment)
    del environment["STIGMER_AGENT_RUNNER_IMAGE"]  # a local build is asked for
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])

    finished = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", "\n".join(fenced_blocks(GUIDE, "sh"))],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=180,
        check=False,
    )

    assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}"
    assert "the stack is already running" in finished.stderr
    assert find_own_containers(engine, str(contained_home.path)) == []


def test_commands_in_its_text_and_their_options_exist() -> None:
    commands = re.findall(r"`stigmer ([^`]+)`", GUIDE.read_text(encoding="utf-8"))
    assert commands
    unknown = [command for command in commands if not _exists(shlex.split(command))]
    assert unknown == []


def _exists(words: list[str]) -> bool:
    command: click.Command = root
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0)) if words else None
        if found is None:
            return False
        command = found
    known = {option for parameter in command.params for option in parameter.opts}
    return {word for word in words if word.startswith("--")} <= known
