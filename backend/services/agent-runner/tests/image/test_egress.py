"""docker-compose.egress.yml at work: a runner whose only way out is a proxy that knows allowed hosts."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from container_engine import REPOSITORY, Container, Engine, wait_until

pytestmark = pytest.mark.parametrize("engine", ["docker"], indirect=True)

PYTHON = "/opt/agent-runner/bin/python"
FILES = ("--file=docker-compose.yml", "--file=docker-compose.egress.yml")
SQUID = """
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends squid >/dev/null
ENTRYPOINT ["squid", "-N"]
"""
# A command of an agent with `network: web`, started as the runner starts it.
AS_A_COMMAND = """
import asyncio, os, pathlib, sys
from agent_runner.commands import open_commands
from agent_runner.settings import load_settings
from agent_runner.workspace import SessionWorkspace
from stigmer_isolation.command_environment import command_environment
async def main():
    directory = pathlib.Path("/workspace/test")
    directory.mkdir(exist_ok=True)
    async with open_commands(load_settings(os.environ), command_environment(os.environ)) as commands:
        workspace = SessionWorkspace(directory, launcher=commands.launcher, network="web")
        done = await workspace.run([sys.executable, "-c", sys.argv[1], *sys.argv[2:]], timeout=60)
        print(done.stdout + done.stderr)
asyncio.run(main())
"""
ASK = """
import http.client, os, sys, urllib.parse
proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
connection = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=20)
connection.set_tunnel(sys.argv[1], 443)
try:
    connection.request("GET", "/")
    print(connection.getresponse().status)
except OSError as error:
    print(error)
"""
GO_DIRECTLY = "import socket, sys; socket.create_connection((sys.argv[1], 443), 3); print('reached')"


@pytest.fixture
def project(engine: Engine, image: str, tmp_path: Path) -> Iterator[str]:
    """Name of a project with one runner and the proxy, and a host in the world outside."""
    name = f"stigmer-test-{uuid4().hex[:12]}"
    (tmp_path / "allowed").write_text("allowed.test\n", encoding="utf-8")
    (tmp_path / "token").write_text("token\n", encoding="utf-8")
    environment = {
        "COMPOSE_PROJECT_NAME": name,
        "RUNNER_IMAGE": image,
        "STIGMER_TOKEN_FILE": str(tmp_path / "token"),
        "STIGMER_RUNNER_TOKEN_FILE": str(tmp_path / "token"),
        "EGRESS_ALLOWED_HOSTS": str(tmp_path / "allowed"),
    }
    if "PYTHON_IMAGE" in os.environ:  # no registry is in reach
        environment["EGRESS_IMAGE"] = f"localhost/stigmer-tests/squid-{name}:stand-in"
        (tmp_path / "squid").mkdir()
        (tmp_path / "squid/Dockerfile").write_text(SQUID, encoding="utf-8")
        engine.build(
            "--build-arg=PYTHON_IMAGE", "--tag", environment["EGRESS_IMAGE"], str(tmp_path / "squid")
        )

    def compose(*arguments: str) -> None:
        done = subprocess.run(
            ["docker-compose", *FILES, *arguments],
            cwd=REPOSITORY,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    try:
        compose("up", "--detach", "--no-build", "--no-deps", "egress", "runner-1")
        yield name
    finally:
        compose("down", "--volumes", "--timeout=5")
        engine.forget_images(f"localhost/stigmer-tests/squid-{name}")


def test_commands_reach_allowed_hosts_through_the_proxy_and_nothing_else(
    engine: Engine, image: str, project: str
) -> None:
    runner = engine.container_named(f"{project}_runner-1_1")
    proxy = engine.container_named(f"{project}_egress_1")
    with engine.container(
        image,
        f"--network={project}_default",
        "--network-alias=allowed.test",
        "--network-alias=denied.test",
        "--workdir=/opt",
        f"--entrypoint={PYTHON}",
        command=("-m", "http.server", "443"),
    ) as world:
        wait_until(lambda: "200" in asked(runner, "allowed.test"), 60, lambda: str(proxy.logs()))
        assert "403 Forbidden" in asked(runner, "denied.test")
        [address] = [
            network["IPAddress"] for network in world.inspect()["NetworkSettings"]["Networks"].values()
        ]
        # Not even outside of a command, where Landlock does not stand in the way.
        directly = runner.run(PYTHON, "-c", GO_DIRECTLY, address, check=False)
        assert directly.returncode != 0, directly.stdout


def asked(runner: Container, host: str) -> str:
    """What a command of an agent is answered."""
    environment = "export STIGMER_TOKEN=$(cat /run/secrets/stigmer_runner_token); unset STIGMER_TOKEN_FILE; "
    script = environment + 'exec "$0" -c "$1" "$2" "$3"'
    done = runner.run("bash", "-c", script, PYTHON, AS_A_COMMAND, ASK, host, check=False)
    return done.stdout + done.stderr
