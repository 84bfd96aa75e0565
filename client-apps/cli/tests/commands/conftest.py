"""One server for all tests of the commands; each test has a home, a folder and a manifest of its own."""

import os
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from cli_harness import TOKEN, UNHURRIED, Command, Server, free_port, running_server

MANIFEST = """\
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {name: greeter}
spec:
  instructions: Greet.
  model: openai:gpt-5
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """One server for all tests; each test has its own executions."""
    home = tmp_path_factory.mktemp("server-home")
    with running_server(home, free_port()) as server:
        yield server


@pytest.fixture
def command(tmp_path: Path, server: Server) -> Command:
    """The command, connected to the test's server."""
    (tmp_path / "agent.yaml").write_text(MANIFEST, encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "STIGMER_HOME": str(tmp_path / "home"),
        "STIGMER_BACKEND_ENDPOINT": f"127.0.0.1:{server.port}",
        "STIGMER_TOKEN": TOKEN,
        "LANG": "C.UTF-8",
    }
    return Command(environment, tmp_path)


@pytest.fixture
def unhurried(command: Command) -> Command:
    """The command, which does not say that something takes long: for where all that it writes is compared."""
    return replace(command, program=("-c", UNHURRIED))
