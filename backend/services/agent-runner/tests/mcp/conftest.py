"""A runner of legs whose agents have MCP servers, and the workspace that the servers' program is in."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from agent_runner.legs import LegRunner
from leg_server import SESSION, Answer, Server, leg_runner
from mcp_legs import STAND_INS
from stigmer_isolation.launcher import CommandLauncher


@pytest.fixture
async def launcher() -> AsyncGenerator[CommandLauncher]:
    async with CommandLauncher() as launcher:
        yield launcher


@pytest.fixture
def make_runner(tmp_path: Path, launcher: CommandLauncher) -> Callable[[Server, Answer], LegRunner]:
    return lambda server, answer: leg_runner(server, answer, launcher, tmp_path)


@pytest.fixture
def make_web_runner(tmp_path: Path, launcher: CommandLauncher) -> Callable[[Server, Answer], LegRunner]:
    """For servers at a URL of this machine."""
    (tmp_path / SESSION).mkdir(mode=0o700)
    return lambda server, answer: leg_runner(
        server, answer, launcher, tmp_path, environment={"STIGMER_MCP_ALLOW_HOSTS": "127.0.0.1"}
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The session's, with the server's program in it."""
    directory = tmp_path / SESSION
    directory.mkdir(mode=0o700)
    (directory / "server.py").write_bytes((STAND_INS / "plain_server.py").read_bytes())
    return directory
