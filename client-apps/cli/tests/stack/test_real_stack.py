"""The real Temporal, server and runner under the supervisor."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from first_environments import FirstEnvironments
from other_person import other_person
from stack_home import StackHome, end_everything, make_stack_home, wait_until
from stigmer_cli.config import load_configuration
from stigmer_cli.stack import ensure_running


@pytest.fixture
def real_home(tmp_path: Path) -> Iterator[StackHome]:
    """A home without stand-ins."""
    home = make_stack_home(tmp_path / "home", own_temporal=True, real_programs=True)
    yield home
    end_everything(home)


_SEARCH = """
import json, os, sys
canary, found = sys.argv[1].encode(), {"environ": [], "mem": []}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if int(pid) != os.getpid() and canary in open(f"/proc/{pid}/environ", "rb").read():
            found["environ"].append(int(pid))
    except OSError:
        pass
for pid in sys.argv[2:]:
    try:
        open(f"/proc/{pid}/mem", "rb").close()
        found["mem"].append(int(pid))
    except OSError:
        pass
print(json.dumps(found))
"""


@pytest.fixture
def ordinary_home(tmp_path: Path) -> Iterator[StackHome]:
    """A home without stand-ins of somebody who is not root: their processes may look into each other."""
    with contextlib.ExitStack() as stack:
        path, person = tmp_path / "home", None
        if os.getuid() == 0:
            person = stack.enter_context(other_person())
            path = person.home / "state"
        home = make_stack_home(path, own_temporal=True, real_programs=True)
        if person is not None:
            home.prefix = tuple(person.prefix)
            home.environment |= person.environment
        stack.callback(end_everything, home)
        yield home


def _seen_by_its_user(home: StackHome, canary: str, pids: list[int]) -> dict[str, list[int]]:
    """Which environments hold the canary, and which memories can be opened."""
    looked = subprocess.run(
        [*home.prefix, sys.executable, "-c", _SEARCH, canary, *map(str, pids)],
        env={"PATH": os.environ["PATH"]},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: dict[str, list[int]] = json.loads(looked.stdout)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows environments in files")
def test_no_process_of_the_stack_shows_a_secret_to_others_of_its_user(ordinary_home: StackHome) -> None:
    canary = f"canary-{secrets.token_hex(16)}"
    first = FirstEnvironments(ordinary_home.path.parent / "first")
    ordinary_home.start(
        OPENAI_API_KEY=canary,
        STIGMER_LLM_PROVIDER="openai",
        STIGMER_LLM_MODEL="gpt-5",
        PYTHONPATH=str(first.python_path),
    )
    holders = [ordinary_home.status()["supervisor_pid"]]
    holders += [ordinary_home.component(name)["pid"] for name in ("server", "runner")]
    wait_until(lambda: first.count("agent_runner spare") == 1, "a spare runner waits")
    # Nor was there a moment to look at, before they had made themselves undumpable.
    assert [one.program for one in first.seen() if any(canary in entry for entry in one.entries)] == []
    assert _seen_by_its_user(ordinary_home, canary, holders) == {"environ": [], "mem": []}
    # The search does find what is to be found.
    with subprocess.Popen(
        [*ordinary_home.prefix, "sleep", "1000"], env={"KEY": canary, "PATH": os.defpath}
    ) as it:
        wait_until(lambda: Path(f"/proc/{it.pid}/comm").read_text() == "sleep\n", "it sleeps")
        seen = _seen_by_its_user(ordinary_home, canary, [it.pid])
        it.kill()
    assert seen == {"environ": [it.pid], "mem": [it.pid]}


def _lives(home: StackHome) -> list[tuple[int, bool]]:
    return [(component["restarts"], component["ready"]) for component in home.status()["components"]]


def test_the_real_stack_starts_answers_comes_back_and_ends(real_home: StackHome) -> None:
    notes: list[str] = []
    connection = ensure_running(load_configuration(real_home.environment), report=notes.append)
    assert notes[0] == "starting the local stack"

    headers = {"Authorization": f"Bearer {connection.token}"}
    assert httpx.get(f"{connection.endpoint}/v1/agents", headers=headers, timeout=60).json()["items"] == []

    before = real_home.status()
    assert before["ready"] is True
    for database in ("temporal.db", "stigmer.db"):
        for file in (real_home.path / "data").glob(f"{database}*"):
            assert file.stat().st_mode & 0o077 == 0, file
    for component in before["components"]:
        os.kill(component["pid"], signal.SIGKILL)
    wait_until(lambda: _lives(real_home) == [(1, True)] * 3, "all of it is ready again")

    assert real_home.stigmer("server", "stop").returncode == 0
    assert real_home.processes() == []
