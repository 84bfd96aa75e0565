"""stigmer-server's image at work, locked down as the runner's: its console, and an agent to its end.

Its own is built with Docker alone; a given one (STIGMER_TEST_SERVER_IMAGE) is tried with either engine.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from container_engine import BUILD_TIMEOUT_SECONDS, ENGINE_KINDS, LOCKED_DOWN, SERVICE, Engine, wait_until
from e2e_script import runner_environment
from executions import Execution, agent_manifest
from model_server import ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from running_stack import RunningStack

GIVEN = os.environ.get("STIGMER_TEST_SERVER_IMAGE")
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.parametrize("engine", ENGINE_KINDS if GIVEN else ["docker"], indirect=True),
]

OTHER_USER = 4321
READY_SECONDS = 150.0
"""Of one that is emulated."""


@pytest.fixture(scope="module")
def server_image(engine: Engine, marked_authorities: Path) -> Iterator[str]:
    """The image of this checkout, built as a release builds it."""
    if GIVEN:
        yield GIVEN
        return
    repository = f"localhost/stigmer-tests/server-{uuid4().hex[:12]}"
    told = {"ENGINE": engine.kind, "SERVICE": "stigmer-server", "IMAGE": repository, "VERSION": "1.2.3"}
    try:
        built = subprocess.run(
            [SERVICE / "image/build.sh"],
            env=os.environ | told | {"CA_BUNDLE": str(marked_authorities)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_SECONDS,
            check=False,
        )
        assert built.returncode == 0, built.stderr[-4000:]
        yield f"{repository}:1.2.3"
    finally:
        engine.forget_images(repository)


def test_it_serves_the_console_and_runs_an_agent_to_its_end(
    engine: Engine, server_image: str, tmp_path: Path
) -> None:
    script = ScriptedModel(
        [
            ScriptedTurn(calls=[ScriptedCall("run_command", {"command": "echo on"})]),
            ScriptedTurn(text="Done."),
        ]
    )
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, OTHER_USER, OTHER_USER)
    with ModelServer(script) as model:
        stack = RunningStack(tmp_path, runner_environment=runner_environment(model))
        try:
            stack.start_temporal()
            environment = {
                "STIGMER_HOST": "127.0.0.1",
                "STIGMER_PORT": str(stack.server_port),
                "STIGMER_TOKEN": stack.token,
                "STIGMER_RUNNER_TOKEN": stack.runner_token,
                "TEMPORAL_SERVICE_ADDRESS": stack.temporal.address,
            }
            options = ("--network=host", f"--user={OTHER_USER}:{OTHER_USER}", f"--volume={data}:/data")
            with engine.container(server_image, *LOCKED_DOWN, *options, environment=environment) as container:
                wait_until(lambda: _answers(f"{stack.endpoint}/readyz"), READY_SECONDS, container.logs)
                page = httpx.get(f"{stack.endpoint}/", follow_redirects=True)
                stack.start_runner()
                execution = Execution.start(stack, agent_manifest(), "Do it.")
                execution.wait_until_completed()
                labels = container.inspect()["Config"]["Labels"]
        finally:
            stack.stop()
    assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (200, "text/html")
    assert labels["org.opencontainers.image.title"] == "stigmer-server"
    assert GIVEN or labels["org.opencontainers.image.version"] == "1.2.3"


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=20).is_success
    except httpx.TransportError:
        return False
