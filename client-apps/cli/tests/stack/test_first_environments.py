"""No process of the stack has a secret in its environment, at no moment of its life."""

import os
import secrets
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from first_environments import FirstEnvironments
from stack_home import STAND_INS, StackHome, wait_until
from stigmer_cli.config import Configuration, load_configuration
from stigmer_cli.stack.local_components import container_component, local_components
from stigmer_cli.stack.native_runner import RunnerLauncher
from stigmer_cli.stack.process_launcher import ProcessLauncher
from stigmer_cli.stack.temporal_database import TemporalLauncher
from stigmer_contract.handed_environment import SHOWN, SOCKET_VARIABLE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows environments in files")

HOLDERS = (
    *("OPENAI_API_KEY", "STIGMER_LLM_API_KEY", "STIGMER_TOKEN", "TEMPORAL_API_KEY", "PGPASSWORD"),
    *("GITHUB_TOKEN", "LD_API_KEY", "OTEL_EXPORTER_OTLP_HEADERS", "DOCKER_AUTH_CONFIG"),
)
"""Names that a person's environment has a secret under; of some the stack knows, of others it cannot."""
RUNNER, SPARE = "agent_runner", "agent_runner spare"


def _secrets(canary: str) -> dict[str, str]:
    return {name: f"{canary}-{name}" for name in HOLDERS} | {
        "STIGMER_DATABASE_URL": f"postgresql://person:{canary}@127.0.0.1/stigmer",
    }


def test_no_process_of_a_stack_has_a_secret_from_its_first_moment_on(
    stack_home: StackHome, tmp_path: Path
) -> None:
    canary = f"canary-{secrets.token_hex(16)}"
    first = FirstEnvironments(tmp_path / "first")
    stack_home.environment |= _secrets(canary) | {"PYTHONPATH": f"{first.python_path}:{STAND_INS}"}
    stack_home.start()
    assert stack_home.seen("runner")["environment"]["OPENAI_API_KEY"] == f"{canary}-OPENAI_API_KEY"
    assert stack_home.seen("server")["environment"]["PGPASSWORD"] == f"{canary}-PGPASSWORD"
    wait_until(lambda: first.count(SPARE) == 1, "a spare runner waits")
    for name in ("server", "runner"):  # each has a successor, and the spare one has, too
        pid = stack_home.component(name)["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda name=name: stack_home.component(name)["restarts"] == 1, "it is started again")
        wait_until(lambda name=name: stack_home.component(name)["ready"], "it is ready again")
    wait_until(lambda: first.count(SPARE) == 2, "another spare runner waits")
    assert stack_home.stigmer("server", "restart", "--now").returncode == 0
    assert stack_home.stigmer("server", "restart").returncode == 0  # hands over
    assert stack_home.seen("runner")["environment"]["GITHUB_TOKEN"] == f"{canary}-GITHUB_TOKEN"
    assert stack_home.stigmer("server", "stop").returncode == 0
    seen = first.seen()
    counts = {one.program: first.count(one.program) for one in seen}
    assert counts["stigmer_cli.stack.supervisor"] == 3
    assert counts["stigmer_server"] == 4
    assert counts[RUNNER] == 3
    assert counts["stigmer_cli.processes.guard"] == 3
    for one in seen:
        assert [entry for entry in one.entries if canary in entry] == [], one.program
        assert {entry.partition("=")[0] for entry in one.entries} <= SHOWN | {SOCKET_VARIABLE}, one.program


def _launcher(component_launcher: object) -> ProcessLauncher:
    """The process within, which is what is started."""
    match component_launcher:
        case ProcessLauncher():
            return component_launcher
        case TemporalLauncher() | RunnerLauncher():
            return next(one for one in vars(component_launcher).values() if isinstance(one, ProcessLauncher))
        case _:
            raise AssertionError(component_launcher)


@pytest.mark.parametrize("part", ["temporal", "server", "runner", "attendant"])
async def test_what_a_part_is_started_with_shows_no_secret(tmp_path: Path, part: str) -> None:
    canary = f"canary-{secrets.token_hex(16)}"
    home = tmp_path / "home"
    home.mkdir()
    person = _secrets(canary) | {"PATH": os.environ["PATH"], "STIGMER_HOME": str(home)}
    person |= {"HTTPS_PROXY": f"http://person:{canary}@proxy.example:3128"}
    configuration: Configuration = load_configuration(person)
    parts = {one.name: one for one in local_components(configuration)}
    parts["attendant"] = container_component(configuration)
    launcher = _launcher(parts[part].launcher)
    looks = "import sys; sys.stdout.write(repr(open('/proc/self/environ', 'rb').read()))"
    lines: list[str] = []
    running = await replace(launcher, arguments=(sys.executable, "-S", "-c", looks)).launch(lines.append)
    assert await running.wait() == 0
    assert "STIGMER_HOME" in "".join(lines) or part == "temporal"
    assert canary not in "".join(lines)
