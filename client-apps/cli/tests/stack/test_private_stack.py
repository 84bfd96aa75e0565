"""A stack for one command: it knows nothing of the person's other stacks, and ends with whoever wanted it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack_home import COMMAND_SECONDS, StackHome, end_everything, wait_until

HOLD = """
import os, sys
from stigmer_cli.config import load_configuration
from stigmer_cli.stack.private_stack import private_stack
with private_stack(load_configuration(os.environ), os.environ, report=lambda text: None) as (own, _):
    print(own.home, flush=True)
    sys.stdin.read()
"""
ELSEWHERE = {
    "STIGMER_BACKEND_ENDPOINT": "http://127.0.0.1:9",
    "STIGMER_TOKEN": "of-another-stack",
    "STIGMER_DATABASE_URL": "postgresql://of-another-stack",
}


@pytest.fixture
def holder(temporal_home: StackHome, tmp_path: Path) -> "Iterator[subprocess.Popen[str]]":
    """A process that holds a private stack until its input ends, and is told of another from everywhere."""
    home = temporal_home.path
    home.mkdir(mode=0o700)
    (home / "config.yaml").write_text("server: {databaseUrl: sqlite:///of-another-stack}\n", encoding="utf-8")
    stored = home / "environment.json"
    stored.write_text(json.dumps(ELSEWHERE | {"OPENAI_API_KEY": "kept"}), encoding="utf-8")
    for file in (home / "config.yaml", stored):
        file.chmod(0o600)
    planted = tmp_path / "workspace" / "stigmer_cli"
    planted.mkdir(parents=True)
    (planted / "__init__.py").write_text("open(__file__ + '.ran', 'w').close()\n", encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD],
        cwd=planted.parent,
        env=temporal_home.environment | ELSEWHERE | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holding:
        yield holding
        holding.kill()


def private_home(holder: "subprocess.Popen[str]") -> StackHome:
    """The home of the stack, once that runs."""
    assert holder.stdout is not None
    path = holder.stdout.readline().strip()
    assert path, "there is no stack"
    return StackHome(Path(path), {"STIGMER_HOME": path})


def test_it_has_the_settings_of_models_and_nothing_of_another_stack(
    holder: "subprocess.Popen[str]",
) -> None:
    home = private_home(holder)
    told = home.seen("server")["environment"]
    assert not {"STIGMER_BACKEND_ENDPOINT", "STIGMER_DATABASE_URL"} & told.keys()
    assert told.get("STIGMER_TOKEN") != "of-another-stack"
    assert home.seen("runner")["environment"]["OPENAI_API_KEY"] == "kept"

    holder.communicate(timeout=COMMAND_SECONDS)

    assert holder.returncode == 0
    assert not home.path.exists()
    wait_until(lambda: home.processes() == [], "the supervisor has gone, too")


def test_it_ends_where_whoever_wanted_it_is_killed_before_it_is_ready(
    holder: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    wait_until(lambda: list(tmp_path.glob("stigmer-private-*/run/supervisor.json")) != [], "it begins")
    holder.kill()
    [path] = tmp_path.glob("stigmer-private-*")
    home = StackHome(path, {"STIGMER_HOME": str(path)})
    try:
        log = path / "logs" / "supervisor.log"
        wait_until(lambda: "is no more" in log.read_text(encoding="utf-8"), "the supervisor has seen it")
        wait_until(lambda: home.processes() == [], "the stack has ended")
    finally:
        end_everything(home)


def test_it_ends_where_whoever_wanted_it_is_killed(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    home = private_home(holder)
    try:
        assert home.processes() != []
        holder.kill()
        wait_until(lambda: home.processes() == [], "the stack has ended")
        assert not list(tmp_path.rglob("*.ran"))  # what lies in the folder where it was called runs nowhere
    finally:
        end_everything(home)
