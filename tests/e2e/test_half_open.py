"""Connections that swallow everything: work goes on over others, and nothing is done twice."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import pytest

from agent_runner import temporal_connection
from e2e_script import runner_environment
from executions import Execution, agent_manifest, tool_results
from model_server import ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from running_stack import RunningStack
from stigmer_contract.events import ToolOutcome, ToolStarted
from stigmer_server import temporal_client
from swallowing_proxy import SwallowingProxy
from temporal_server import TemporalServer, free_port

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("half-open")]

TIMES_QUICKER: Final = 10
QUICKER = """
from temporalio.client import Client
from temporalio.service import KeepAliveConfig

connect = Client.connect

async def connect_quickly(*arguments, keep_alive_config, **more):
    interval = keep_alive_config.interval_millis // {times}
    timeout = keep_alive_config.timeout_millis // {times}
    quick = KeepAliveConfig(interval_millis=interval, timeout_millis=timeout)
    return await connect(*arguments, keep_alive_config=quick, **more)

Client.connect = connect_quickly
"""
"""Keeps connections to Temporal alive as ours are, in a tenth of the time."""
NO_LIMIT = ['frontend.keepAliveMinTime="500ms"', "frontend.keepAlivePermitWithoutStream=true"]
UNTIL_TOLD = "until test -e go; do sleep 0.1; done; echo done >> done.txt"


@dataclass(frozen=True)
class World:
    """A stack with a proxy between each pair that is looked at."""

    stack: RunningStack
    model: ModelServer
    runner_to_temporal: SwallowingProxy
    runner_to_server: SwallowingProxy
    server_to_temporal: SwallowingProxy

    def start(self) -> tuple[Execution, str]:
        """An execution whose command runs until it is told to end, and the key of the model's counts."""
        key = uuid4().hex
        execution = Execution.start(self.stack, agent_manifest(), f"Do it. [conversation {key}]")
        execution.wait_for(lambda recorded: isinstance(recorded.event, ToolStarted))
        return execution, key

    def end(self, execution: Execution, key: str) -> None:
        """Let the command end, and see that everything was done once."""
        (self.stack.workspace_root / execution.session_id / "go").touch()
        attempt = execution.wait_until_completed().attempt
        commands = [result.outcome for result in tool_results(execution.events)]
        asked = [self.model.asked[key, turn] for turn in (1, 2)]
        assert (attempt, asked, commands) == (1, [1, 1], [ToolOutcome.SUCCEEDED])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All of it, running."""
    home = tmp_path_factory.mktemp("half-open")
    (home / "sitecustomize.py").write_text(QUICKER.format(times=TIMES_QUICKER), encoding="utf-8")
    temporal = TemporalServer(home / "temporal.db", dynamic_config=NO_LIMIT)
    server_port = free_port()
    command = ScriptedCall("run_command", {"command": UNTIL_TOLD})
    script = ScriptedModel([ScriptedTurn(calls=[command]), ScriptedTurn(text="Done.")])
    with (
        ModelServer(script) as model,
        SwallowingProxy(temporal.port) as runner_to_temporal,
        SwallowingProxy(temporal.port) as server_to_temporal,
        SwallowingProxy(server_port) as runner_to_server,
    ):
        path = {"PYTHONPATH": str(home)}
        stack = RunningStack(
            home,
            server_environment=path | {"TEMPORAL_SERVICE_ADDRESS": f"127.0.0.1:{server_to_temporal.port}"},
            runner_environment=path
            | runner_environment(model)
            | {
                "TEMPORAL_SERVICE_ADDRESS": f"127.0.0.1:{runner_to_temporal.port}",
                "STIGMER_BACKEND_ENDPOINT": f"http://127.0.0.1:{runner_to_server.port}",
            },
            temporal=temporal,
            server_port=server_port,
        )
        with stack:
            yield World(stack, model, runner_to_temporal, runner_to_server, server_to_temporal)


def test_half_open_connections_to_temporal_are_given_up_within_twenty_seconds() -> None:
    for keep_alive in (temporal_connection.KEEP_ALIVE, temporal_client.KEEP_ALIVE):
        assert keep_alive.interval_millis + keep_alive.timeout_millis <= 20_000


def test_a_runner_whose_connections_to_temporal_swallow_everything_takes_the_next_execution(
    world: World,
) -> None:
    before = world.runner_to_temporal.connections
    assert world.runner_to_temporal.swallow() >= 1

    world.end(*world.start())

    assert world.runner_to_temporal.connections > before


def test_a_server_whose_connections_to_temporal_swallow_everything_starts_the_next_execution(
    world: World,
) -> None:
    before = world.server_to_temporal.connections
    assert world.server_to_temporal.swallow() >= 1

    world.end(*world.start())

    assert world.server_to_temporal.connections > before


def test_a_runner_whose_connections_to_the_server_swallow_everything_goes_on_over_others(
    world: World,
) -> None:
    execution, key = world.start()
    swallowed = world.runner_to_server.swallowed
    world.runner_to_server.swallow()

    world.end(execution, key)

    assert world.runner_to_server.swallowed > swallowed
