"""The image at work: against a real Temporal and a real server, started as `run-local` starts it."""

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import trustme

from container_engine import LOCKED_DOWN, Container, Engine, wait_until
from e2e_script import TOOL_CALLS, runner_environment, ten_tool_script
from executions import Execution, agent_manifest, answered_turns
from model_server import ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from running_stack import RunningStack
from stigmer_contract.events import LegEnded, LegEndReason, ToolFinished
from temporal_server import free_port
from tls_front import TlsFront

MAX_IDLE_BYTES = 115_000_000
"""Programs that are mapped count as well: 100 MB in all, of which 72 its own (2026-11)."""
UNHEALTHY_SECONDS = 60.0
EMULATED_START_SECONDS = 100.0
"""17 s on two busy cores (2026-11-25)."""


OTHER_USER = 4321
"""A person whom neither the image nor this machine knows."""
QUICK_CHECKS = ("--health-interval=1s", "--health-start-period=0s")


@contextmanager
def runner(
    engine: Engine,
    image: str,
    stack: RunningStack,
    workspace: Path,
    *options: str,
    user: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Generator[Container]:
    """The image as a runner of that stack, as the user of the tests or another; the workspace is theirs."""
    workspace.mkdir(exist_ok=True)
    user_id, group_id = (os.getuid(), os.getgid()) if user is None else (user, user)
    os.chown(workspace, user_id, group_id)
    own = {
        "TEMPORAL_SERVICE_ADDRESS": stack.temporal.address,
        "STIGMER_BACKEND_ENDPOINT": stack.endpoint,
        "STIGMER_TOKEN": stack.token,
        "STIGMER_HEALTH_PORT": str(free_port()),
    }
    if os.environ.get("STIGMER_TEST_EMULATED"):  # qemu's user emulation refuses what shuts commands in
        own["STIGMER_ISOLATION"] = "off"
    with engine.container(
        image,
        *LOCKED_DOWN,
        "--network=host",
        f"--user={user_id}:{group_id}",
        f"--volume={workspace}:/workspace",
        *options,
        environment=own | dict(environment or {}),
    ) as container:
        yield container


@pytest.fixture
def idle_stack(tmp_path: Path) -> Iterator[RunningStack]:
    """A stack of the test's own, of which nothing runs yet."""
    home = tmp_path / "stack"
    home.mkdir()
    stack = RunningStack(home)
    yield stack
    stack.stop()


@pytest.mark.timeout(300)  # where it is emulated
def test_it_runs_an_agent_to_the_end_as_the_person_who_started_it(
    engine: Engine, image: str, stack: RunningStack, tmp_path: Path
) -> None:
    command = "id -u > who.txt; git init -q . && echo done > result.txt; touch /opt/x /usr/x /x; true"
    script = ScriptedModel(
        [ScriptedTurn(calls=[ScriptedCall("run_command", {"command": command})]), ScriptedTurn(text="Done.")]
    )
    workspace = tmp_path / "workspace"
    with (
        ModelServer(script) as model,
        runner(
            engine, image, stack, workspace, user=OTHER_USER, environment=runner_environment(model)
        ) as container,
    ):
        wait_until_it_says_so(container)
        container.wait_until_ready()
        execution = Execution.start(stack, agent_manifest(), f"Do it. [conversation {uuid4().hex}]")
        execution.wait_until_completed()
        results = [event for event in execution.events if isinstance(event, ToolFinished)]
        assert "Read-only file system" in str(results) or "Permission denied" in str(results)
        session = workspace / execution.session_id
        assert (session / "who.txt").read_text(encoding="utf-8") == f"{OTHER_USER}\n"
        owners = {(path.stat().st_uid, path.stat().st_gid) for path in [session, *session.rglob("*")]}
        assert owners == {(OTHER_USER, OTHER_USER)}
    # The container is gone; what it made is there for the next.
    options = (f"--user={OTHER_USER}:{OTHER_USER}", f"--volume={workspace}:/workspace")
    assert engine.run_once(image, f"cat /workspace/{execution.session_id}/result.txt", *options) == "done"


def wait_until_it_says_so(container: Container) -> None:
    """Over HTTP: an emulated container is slow enough without a program in it that asks again and again."""
    [port] = [
        value
        for name, _, value in (pair.partition("=") for pair in container.inspect()["Config"]["Env"])
        if name == "STIGMER_HEALTH_PORT"
    ]

    def is_ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz").is_success
        except httpx.TransportError:
            return False

    wait_until(is_ready, EMULATED_START_SECONDS, container.logs)


def test_a_killed_container_s_execution_is_finished_by_a_new_one(
    engine: Engine, image: str, stack: RunningStack, tmp_path: Path
) -> None:
    with ModelServer(ten_tool_script()) as model:
        key = uuid4().hex
        environment = runner_environment(model)
        with runner(engine, image, stack, tmp_path / "workspace", environment=environment) as first:
            first.wait_until_ready()
            execution = Execution.start(stack, agent_manifest(), f"Do it. [conversation {key}]")
            execution.wait_for(lambda recorded: recorded.sequence >= 12)
            first.kill()
        with runner(engine, image, stack, tmp_path / "workspace", environment=environment):
            execution.wait_until_completed()
        asked = [model.asked[key, turn] for turn in range(1, TOOL_CALLS + 2)]
    assert execution.resource.attempt >= 2
    assert answered_turns(execution.events) == list(range(1, TOOL_CALLS + 2))
    assert sum(asked) - len(asked) <= 1, asked


def test_asked_to_stop_it_hands_its_work_back_and_ends_well(
    engine: Engine, image: str, stack: RunningStack, tmp_path: Path
) -> None:
    with ModelServer(ten_tool_script()) as model:
        key = uuid4().hex
        environment = runner_environment(model)
        with runner(engine, image, stack, tmp_path / "workspace", environment=environment) as first:
            first.wait_until_ready()
            execution = Execution.start(stack, agent_manifest(), f"Do it. [conversation {key}]")
            execution.wait_for(lambda recorded: recorded.sequence >= 8)
            assert first.stop() == 0
        with runner(engine, image, stack, tmp_path / "workspace", environment=environment):
            execution.wait_until_completed()
        asked = [model.asked[key, turn] for turn in range(1, TOOL_CALLS + 2)]
    ended = [event for event in execution.events if isinstance(event, LegEnded)]
    assert ended[0].reason is LegEndReason.DRAINED
    assert asked == [1] * (TOOL_CALLS + 1)


def test_health_follows_temporal_without_a_restart_and_says_why(
    engine: Engine, image: str, idle_stack: RunningStack, tmp_path: Path
) -> None:
    idle_stack.start_temporal()
    idle_stack.start_server()
    with runner(engine, image, idle_stack, tmp_path / "workspace", *QUICK_CHECKS) as container:
        become(container, "healthy")
        idle_stack.kill_temporal()
        become(container, "unhealthy")
        assert f"Temporal at {idle_stack.temporal.address}" in container.last_health_output()
        idle_stack.start_temporal()
        become(container, "healthy")
        assert container.inspect()["RestartCount"] == 0


def test_without_temporal_it_does_not_become_healthy(
    engine: Engine, image: str, idle_stack: RunningStack, tmp_path: Path
) -> None:
    with runner(engine, image, idle_stack, tmp_path / "workspace", *QUICK_CHECKS) as container:
        become(container, "unhealthy")
        ready, reason = container.ask_health()
        assert not ready
        assert f"temporal: not connected to Temporal at {idle_stack.temporal.address}" in reason
        assert "server: " in reason
        port = environment_of(container)["STIGMER_HEALTH_PORT"]
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == httpx.codes.OK


def test_a_workspace_that_cannot_be_written_makes_it_unready(
    engine: Engine, image: str, stack: RunningStack, tmp_path: Path
) -> None:
    with runner(engine, image, stack, tmp_path / "workspace", f"--user={OTHER_USER}") as container:
        reason = "is not ready: workspace: cannot write to '/workspace': Permission denied\n"
        wait_until(lambda: container.ask_health()[1].endswith(reason), 60, lambda: container.ask_health()[1])


def become(container: Container, status: str) -> None:
    """Wait until the engine says so."""
    wait_until(lambda: container.health_status() == status, UNHEALTHY_SECONDS, container.logs)


def environment_of(container: Container) -> dict[str, str]:
    """The environment that it was started with."""
    return dict(entry.split("=", 1) for entry in container.inspect()["Config"]["Env"])


def test_its_first_process_reaps_orphans_and_hides_its_environment(
    engine: Engine, image: str, stack: RunningStack, tmp_path: Path
) -> None:
    with runner(engine, image, stack, tmp_path / "workspace", user=OTHER_USER) as container:
        wait_until(lambda: container.run("true", check=False).returncode == 0, 30, container.logs)
        container.run("bash", "-c", "for i in 1 2 3 4 5; do (sleep 0.1 &) ; done")
        states = "cat /proc/[0-9]*/stat 2>/dev/null | sed 's/.*) //' | cut -c1"
        wait_until(
            lambda: "sleep" not in container.output("bash", "-c", "cat /proc/[0-9]*/comm 2>/dev/null"),
            30,
            container.logs,
        )
        assert "Z" not in container.output("bash", "-c", states)
        container.wait_until_ready()
        readable = (
            "for p in /proc/[0-9]*; do tr '\\0' '\\n' 2>/dev/null <$p/environ | grep -c STIGMER_TOKEN=; done"
        )
        # Only the asking shell has it, because the engine gives it to what it starts.
        counts = container.run("bash", "-c", readable, check=False).stdout.split()
        assert sum(int(count) for count in counts) <= 2, counts
        unreadable = container.run("bash", "-c", "cat /proc/1/environ", check=False)
        assert "Permission denied" in unreadable.stderr


def test_a_secret_may_come_as_a_file(engine: Engine, image: str, stack: RunningStack, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(f"{stack.token}\n", encoding="utf-8")
    with runner(
        engine,
        image,
        stack,
        tmp_path / "workspace",
        f"--volume={token}:/run/secrets/token:ro",
        environment={"STIGMER_TOKEN": "", "STIGMER_TOKEN_FILE": "/run/secrets/token"},
    ) as container:
        container.wait_until_ready()
        assert stack.token not in str(container.inspect())


def test_a_mounted_bundle_makes_it_trust_a_private_authority(
    engine: Engine, image: str, stack: RunningStack, tmp_path: Path
) -> None:
    """Temporal, the server and the model all speak TLS with certificates of that authority."""
    authority, bundle = trustme.CA(), tmp_path / "ca.crt"
    authority.cert_pem.write_to_path(bundle)
    with (
        ModelServer(ScriptedModel([ScriptedTurn(text="Done.")])) as model,
        TlsFront(model.port, authority) as model_front,
        TlsFront(stack.server_port, authority) as server_front,
        TlsFront(stack.temporal.port, authority) as temporal_front,
    ):
        environment = runner_environment(model) | {
            "TEMPORAL_TLS": "true",
            "TEMPORAL_SERVICE_ADDRESS": f"localhost:{temporal_front.port}",
            "STIGMER_BACKEND_ENDPOINT": f"https://localhost:{server_front.port}",
            "STIGMER_LLM_BASE_URL": f"https://localhost:{model_front.port}/v1",
        }
        with runner(engine, image, stack, tmp_path / "workspace", environment=environment) as container:
            wait_until(lambda: "CertificateError" in container.ask_health()[1], 60, container.logs)
            assert "temporal: not connected" in container.ask_health()[1]
        mount = f"--volume={bundle}:/run/secrets/ca.crt:ro"
        environment |= {"SSL_CERT_FILE": "/run/secrets/ca.crt"}
        with runner(
            engine, image, stack, tmp_path / "workspace", mount, environment=environment
        ) as container:
            container.wait_until_ready()
            Execution.start(stack, agent_manifest(), "Do it.").wait_until_completed()


def test_a_wrong_setting_ends_it_at_once_with_one_line(engine: Engine, image: str) -> None:
    done = engine.call("run", "--rm", "--env=TEMPORAL_SERVICE_ADDRESS=nowhere", image, check=False)
    assert done.returncode == 2
    # Podman complains of its own about a machine without systemd.
    [line] = [line for line in done.stderr.splitlines() if not line.startswith("time=")]
    assert line.startswith("error: TEMPORAL_SERVICE_ADDRESS: 'nowhere' is not an address")


def test_idle_it_stays_within_its_memory_and_gives_back_what_the_work_took(
    engine: Engine, image: str, stack: RunningStack, tmp_path: Path
) -> None:
    with (
        ModelServer(ScriptedModel([ScriptedTurn(text="Done.")])) as model,
        runner(
            engine, image, stack, tmp_path / "workspace", environment=runner_environment(model)
        ) as container,
    ):
        container.wait_until_ready()
        assert 0 < container.memory_bytes() <= MAX_IDLE_BYTES

        Execution.start(
            stack, agent_manifest(), f"Do it. [conversation {uuid4().hex}]"
        ).wait_until_completed()
        worked = container.memory_bytes()

        def is_renewed() -> bool:
            if container.logs().count("polling task queue") == 2:
                return True
            # As after two minutes. Again: what is completed may be in hand for a moment longer.
            engine.call("kill", "--signal=USR2", container.name)
            return False

        wait_until(is_renewed, 60, container.logs)
        container.wait_until_ready()
        assert container.memory_bytes() <= min(MAX_IDLE_BYTES, worked)

        Execution.start(
            stack, agent_manifest(), f"Do it. [conversation {uuid4().hex}]"
        ).wait_until_completed()
        assert container.stop() == 0


@pytest.mark.parametrize("signal_name", ["INT", "TERM"])
def test_it_ends_on_signals_also_before_it_is_ready(
    engine: Engine, image: str, idle_stack: RunningStack, tmp_path: Path, signal_name: str
) -> None:
    with runner(engine, image, idle_stack, tmp_path / "workspace") as container:
        wait_until(lambda: "not connected" in container.ask_health()[1], 60, container.logs)
        engine.call("kill", f"--signal={signal_name}", container.name)
        wait_until(lambda: not container.inspect()["State"]["Running"], 30, container.logs)
        assert container.inspect()["State"]["ExitCode"] == 0
