"""The supervisor against real processes that are killed, hang, crash and refuse."""

import json
import os
import signal
from typing import Any

import psutil
import pytest

from stack_home import StackHome, wait_until
from stigmer_cli.program_version import program_version


def _pids(status: dict[str, Any]) -> dict[str, int]:
    return {component["name"]: component["pid"] for component in status["components"]}


def _guards(home: StackHome) -> list[int]:
    return [pid for pid, line in home.command_lines().items() if "stigmer_cli.processes.guard" in line]


def test_every_part_is_reported_as_it_is(temporal_home: StackHome) -> None:
    temporal_home.start()
    status = temporal_home.status()
    ports = temporal_home.ports
    assert (status["running"], status["ready"], status["contained"]) == (True, True, False)
    facts = [
        (part["name"], part["phase"], part["ready"], part["address"], part["version"], part["restarts"])
        for part in status["components"]
    ]
    assert facts == [
        ("temporal", "ready", True, f"127.0.0.1:{ports['temporal']}", facts[0][4], 0),
        ("server", "ready", True, f"127.0.0.1:{ports['server']}", program_version(), 0),
        ("runner", "ready", True, f"127.0.0.1:{ports['runner']}", program_version(), 0),
    ]
    assert all(psutil.pid_exists(pid) for pid in _pids(status).values())


@pytest.mark.parametrize("name", ["temporal", "server", "runner"])
def test_a_part_that_is_killed_comes_back(temporal_home: StackHome, name: str) -> None:
    temporal_home.start()
    before = temporal_home.status()
    os.kill(_pids(before)[name], signal.SIGKILL)
    wait_until(lambda: temporal_home.component(name)["restarts"] == 1, "it is started again")
    wait_until(lambda: temporal_home.component(name)["ready"], "it is ready again")
    after = temporal_home.status()
    changed = {part for part in _pids(before) if _pids(before)[part] != _pids(after)[part]}
    assert changed == {name}


def test_killing_the_supervisor_ends_every_part(temporal_home: StackHome) -> None:
    temporal_home.start()
    os.kill(temporal_home.status()["supervisor_pid"], signal.SIGKILL)
    wait_until(lambda: not temporal_home.processes(), "everything has ended")
    status = temporal_home.status()
    assert {part["phase"] for part in status["components"]} == {"stopped"}
    temporal_home.start()


def test_a_part_that_will_not_end_is_killed_when_the_supervisor_was(stack_home: StackHome) -> None:
    stack_home.order("server-hang")
    stack_home.start()
    os.kill(stack_home.status()["supervisor_pid"], signal.SIGKILL)
    wait_until(lambda: not stack_home.processes(), "everything has ended")


def test_the_next_start_ends_what_a_killed_supervisor_and_guard_left(stack_home: StackHome) -> None:
    stack_home.start()
    before = _pids(stack_home.status())
    supervisor = psutil.Process(stack_home.status()["supervisor_pid"])
    supervisor.suspend()  # so that neither can act on the other's end
    os.kill(_guards(stack_home)[0], signal.SIGKILL)
    supervisor.kill()
    wait_until(lambda: not stack_home.status()["running"], "the supervisor has ended")
    left = stack_home.component("server")
    assert (left["phase"], left["pid"]) == ("stopped", before["server"])
    stack_home.start()
    assert before["server"] not in [process.pid for process in stack_home.processes()]
    assert _pids(stack_home.status())["server"] != before["server"]


def test_a_guard_that_is_killed_is_replaced(stack_home: StackHome) -> None:
    stack_home.start()
    first = _guards(stack_home)
    os.kill(first[0], signal.SIGKILL)
    wait_until(lambda: len(_guards(stack_home)) == 1 and _guards(stack_home) != first, "there is another")
    os.kill(stack_home.status()["supervisor_pid"], signal.SIGKILL)
    wait_until(lambda: not stack_home.processes(), "everything has ended")


def test_a_crash_loop_at_the_start_is_reported_with_what_the_part_said(stack_home: StackHome) -> None:
    stack_home.order("server-crash")
    completed = stack_home.stigmer("server", "start")
    assert completed.returncode == 3
    assert completed.stderr.partition("error: ")[2] == (
        "could not start server: it ended with exit code 1, 5 times in a row\n"
        "  about to crash\n"
        "\n"
        "hint: run `stigmer server logs --server` to see more\n"
    )
    assert stack_home.processes() == []


def test_refused_settings_are_not_tried_again(stack_home: StackHome) -> None:
    stack_home.order("runner-refuse")
    completed = stack_home.stigmer("server", "start")
    assert completed.returncode == 3
    assert completed.stderr.partition("error: ")[2] == (
        "could not start runner: it ended with exit code 2\n"
        "  STIGMER_EXAMPLE: 'x' is none of a, b\n"
        "\n"
        "hint: run `stigmer server logs --runner` to see more\n"
    )
    logged = stack_home.stigmer("server", "logs", "--runner").stdout
    assert logged.count("STIGMER_EXAMPLE") == 1


def test_a_part_that_crashes_later_is_reported_and_tried_again_until_it_lives(stack_home: StackHome) -> None:
    stack_home.start()
    before = _pids(stack_home.status())
    stack_home.order("runner-crash")
    os.kill(before["runner"], signal.SIGKILL)
    for restarts in (6, 7):
        wait_until(
            lambda restarts=restarts: stack_home.component("runner")["restarts"] >= restarts,
            "it was tried again",
        )
    assert stack_home.component("runner")["reason"].startswith("it ended with exit code 1, ")
    assert stack_home.component("server")["pid"] == before["server"]
    assert stack_home.stigmer("server", "start").returncode == 3
    assert stack_home.component("server")["pid"] == before["server"]
    stack_home.withdraw("runner-crash")
    wait_until(lambda: stack_home.component("runner")["ready"], "it is ready without anybody's help")
    assert stack_home.stigmer("server", "start").returncode == 0


def test_a_part_that_says_it_is_not_ready_is_reported_with_its_reason(stack_home: StackHome) -> None:
    stack_home.start()
    stack_home.order("server-unready")
    completed = stack_home.stigmer("server", "status", "--json")
    server = json.loads(completed.stdout)["components"][1]
    assert completed.returncode == 3
    assert (server["phase"], server["ready"], server["reason"]) == (
        "unhealthy",
        False,
        "orders: told to be unready",
    )


def test_stopping_ends_parts_that_will_not_end(stack_home: StackHome) -> None:
    stack_home.order("server-hang")
    stack_home.order("runner-hang")
    stack_home.start()
    assert stack_home.stigmer("server", "stop").returncode == 0
    wait_until(lambda: not stack_home.processes(), "everything has ended")


def test_the_runner_ends_first(stack_home: StackHome) -> None:
    stack_home.start()
    stack_home.stigmer("server", "stop")
    lines = stack_home.stigmer("server", "logs", "--runner", "--server").stdout.splitlines()
    endings = [line.split()[1] for line in lines if line.endswith(" ends")]
    assert endings == ["runner", "server"]


def test_stopping_a_supervisor_that_hangs_ends_everything(stack_home: StackHome) -> None:
    stack_home.start()
    os.kill(stack_home.status()["supervisor_pid"], signal.SIGSTOP)
    assert stack_home.stigmer("server", "stop").returncode == 0
    wait_until(lambda: not stack_home.processes(), "everything has ended")


@pytest.mark.timeout(600)
def test_starting_and_stopping_ten_times_leaves_nothing(stack_home: StackHome) -> None:
    for _ in range(10):
        stack_home.start()
        assert stack_home.stigmer("server", "stop").returncode == 0
        assert stack_home.processes() == []
    left = {path.name for path in (stack_home.path / "run").iterdir()}
    assert left == {"change.lock", "supervisor.lock", "token", "runner-token"}
