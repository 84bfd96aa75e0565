"""The real Temporal, server and runner under the supervisor."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from stack_home import StackHome, end_everything, make_stack_home, wait_until
from stigmer_cli.config import load_configuration
from stigmer_cli.stack import ensure_running


@pytest.fixture
def real_home(tmp_path: Path) -> Iterator[StackHome]:
    """A home without stand-ins."""
    home = make_stack_home(tmp_path / "home", own_temporal=True, real_programs=True)
    yield home
    end_everything(home)


def _lives(home: StackHome) -> list[tuple[int, bool]]:
    return [(component["restarts"], component["ready"]) for component in home.status()["components"]]


def test_the_real_stack_starts_answers_comes_back_and_ends(real_home: StackHome) -> None:
    notes: list[str] = []
    connection = ensure_running(load_configuration(real_home.environment), report=notes.append)
    assert notes[0] == "starting the local stack"

    headers = {"Authorization": f"Bearer {connection.token}"}
    assert httpx.get(f"{connection.endpoint}/v1/agents", headers=headers, timeout=10).json()["items"] == []

    before = real_home.status()
    assert before["ready"] is True
    for component in before["components"]:
        os.kill(component["pid"], signal.SIGKILL)
    wait_until(lambda: _lives(real_home) == [(1, True)] * 3, "all of it is ready again")

    assert real_home.stigmer("server", "stop", timeout_seconds=15).returncode == 0
    assert real_home.processes() == []
