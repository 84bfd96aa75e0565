"""For tools that ask something by HTTP: a launcher, and a server that records what it is asked."""

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from leg_server import SESSION
from recording_server import RecordingServer
from stigmer_isolation.launcher import CommandLauncher


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncGenerator[CommandLauncher]:
    (tmp_path / SESSION).mkdir(mode=0o700)
    async with CommandLauncher() as launcher:
        yield launcher


@pytest.fixture
def web() -> Iterator[RecordingServer]:
    with RecordingServer() as server:
        yield server
