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
from image_registry import ImageRegistry
from pushed_runner import log_in, push_anew
from stack_home import StackHome
from stigmer_cli.cli import root
from stigmer_cli.containers import Engine, ImageReference
from stigmer_cli.runner.inspection import find_own_containers

ARCHIVED = "localhost/stigmer-tests/archived-runner"
GUIDE = Path(__file__).parents[2] / "docs" / "container-mode.md"


@pytest.mark.timeout(600)
def test_the_commands_for_a_local_image_run_in_order(contained_home: StackHome, engine: Engine) -> None:
    [commands, _] = fenced_blocks(GUIDE, "sh")
    del contained_home.environment["STIGMER_AGENT_RUNNER_IMAGE"]  # a local build is asked for

    said = _run(commands, contained_home)

    assert "the stack is already running" in said
    assert find_own_containers(engine, str(contained_home.path)) == []


@pytest.mark.timeout(600)
def test_the_commands_for_an_image_of_a_registry_and_of_an_archive_run_in_order(
    contained_home: StackHome, engine: Engine, runner_image: str, archive: Path, tmp_path: Path
) -> None:
    [_, commands] = fenced_blocks(GUIDE, "sh")
    archive.rename(contained_home.path.parent / "image.tar")
    with ImageRegistry(tmp_path / "registry", engine.traits.kind.value) as registry:
        log_in(contained_home, registry)
        reference = ImageReference.parse(f"{registry.repository}:1")
        contained_home.environment |= {
            "STIGMER_AGENT_RUNNER_IMAGE": str(reference),
            "STIGMER_PULL_POLICY": "missing",
        }
        push_anew(engine, runner_image, reference)
        engine.api.call("forget", "DELETE", f"/images/{reference}", query={"force": "true"})
        try:
            said = _run(commands, contained_home)
        finally:
            contained_home.stigmer("server", "stop")
            if engine.images.find(str(reference)):
                engine.api.call("forget", "DELETE", f"/images/{reference}", query={"force": "true"})

    assert said.count(f"pulling the runner's image {reference} (") == 2
    assert "the runner is up to date" in said
    assert f"the runner's container is {ARCHIVED}:1 in {engine.traits.title}" in said
    assert find_own_containers(engine, str(contained_home.path)) == []


def _run(commands: str, home: StackHome) -> str:
    """Beside the home; answers what was said."""
    path = os.pathsep.join([str(Path(sys.executable).parent), home.environment["PATH"]])
    finished = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", commands],
        cwd=home.path.parent,
        env=home.environment | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}"
    return finished.stderr


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
