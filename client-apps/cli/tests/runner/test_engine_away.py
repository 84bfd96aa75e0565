"""An engine that goes away under a running stack is waited for, and everything comes back by itself."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine_socket import EngineSocket
from stack_home import StackHome, wait_until
from stigmer_cli.config import load_configuration
from stigmer_cli.containers import Engine
from stigmer_cli.runner.inspection import find_own_containers
from stigmer_cli.stack.state import RUNNER, ComponentPhase, StackFiles, read_state

pytestmark = pytest.mark.timeout(600)

WAIT_SECONDS = 120.0


def test_an_engine_that_is_away_is_waited_for_and_the_container_gone_on_with(
    contained_home: StackHome, engine: Engine, tmp_path: Path
) -> None:
    variable = {"docker": "DOCKER_HOST", "podman": "CONTAINER_HOST"}[engine.traits.kind.value]
    with EngineSocket(tmp_path / "engine.sock", engine.api.socket_path) as way:
        contained_home.environment[variable] = f"unix://{way.path}"
        contained_home.start()
        (before,) = find_own_containers(engine, str(contained_home.path))

        way.take_away()

        def is_told() -> bool:
            # What the supervisor wrote down: the container itself goes on, and answers.
            state = read_state(StackFiles(load_configuration(contained_home.environment)).state)
            assert state is not None
            runner = next(one for one in state.components if one.name == RUNNER)
            return runner.restarts > 2 and "it is waited for" in (runner.reason or "")

        wait_until(is_told, "status says that the engine is waited for", seconds=WAIT_SECONDS)
        listed = contained_home.stigmer("executions", "list")
        assert listed.returncode == 0, listed.stderr
        assert contained_home.component("runner")["phase"] != ComponentPhase.FAILED

        way.bring_back()

        wait_until(lambda: contained_home.status()["ready"], "all is ready", seconds=WAIT_SECONDS)
        (after,) = find_own_containers(engine, str(contained_home.path))
        assert after.container_id == before.container_id
        assert contained_home.stigmer("server", "stop").returncode == 0
        assert find_own_containers(engine, str(contained_home.path)) == []


def test_a_start_waits_for_an_engine_that_is_away_and_gives_up_in_time(
    contained_home: StackHome, engine: Engine, tmp_path: Path
) -> None:
    variable = {"docker": "DOCKER_HOST", "podman": "CONTAINER_HOST"}[engine.traits.kind.value]
    with EngineSocket(tmp_path / "engine.sock", engine.api.socket_path) as way:
        contained_home.environment[variable] = f"unix://{way.path}"
        way.take_away()
        given_up = contained_home.stigmer("server", "start", "--timeout", "1")
        with ThreadPoolExecutor(1) as pool:
            arguments = ("server", "start", "--timeout", "120")
            starting = pool.submit(contained_home.stigmer, *arguments, timeout_seconds=WAIT_SECONDS * 2)
            way.bring_back()
            started = starting.result()

        told, error, *_ = given_up.stderr.splitlines()
        title = engine.traits.kind.value.capitalize()
        away = f"could not use {title}: it is installed, but there is no {way.path}"
        assert (given_up.returncode, told, error) == (
            3,
            f"{away}; it is waited for, 1 s at most",
            f"error: {away}",
        )
        assert started.returncode == 0, started.stderr
        assert contained_home.status()["contained"] is True
        assert contained_home.stigmer("server", "stop").returncode == 0


def test_an_engine_that_hangs_is_told_by_status_doctor_and_stop(
    contained_home: StackHome, engine: Engine, tmp_path: Path
) -> None:
    variable = {"docker": "DOCKER_HOST", "podman": "CONTAINER_HOST"}[engine.traits.kind.value]
    contained_home.start()
    (tmp_path / "silent").mkdir()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent" / "engine.sock"))
        silent.listen()
        hanging = {variable: f"unix://{tmp_path / 'silent' / 'engine.sock'}"}
        # Whatever is set: what is asked is the engine of the stack that runs.
        other = {"STIGMER_ENGINE": "auto"}

        status = contained_home.stigmer("server", "status", "--json", variables=hanging | other)
        doctor = contained_home.stigmer("doctor", "--json", variables=hanging | other)
        stopped = contained_home.stigmer("server", "stop", variables=hanging | other)

    assert status.returncode == 0, status.stdout
    assert "ask the engine whether it is there" in json.loads(status.stdout)["container"]["problem"]
    found = {one["name"]: one for one in json.loads(doctor.stdout)["findings"]}
    told = found["container engine"]
    assert (told["outcome"], "does not answer as it should" in told["detail"]) == ("failed", True), told
    assert engine.traits.kind.value.capitalize() in told["detail"]
    assert stopped.returncode == 3
    assert "ask the engine whether it is there" in stopped.stderr
    assert contained_home.status()["running"] is False
    assert contained_home.stigmer("server", "stop").returncode == 0
    assert find_own_containers(engine, str(contained_home.path)) == []
