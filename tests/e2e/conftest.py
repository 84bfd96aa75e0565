"""What the end-to-end tests share: a scripted model over HTTP and a stack that uses it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e_script import QUICK_HEARTBEAT, runner_environment, ten_tool_script
from model_server import ModelServer
from running_stack import RunningStack


@pytest.fixture(scope="module")
def ten_tools_model() -> Iterator[ModelServer]:
    """A model that works through ten commands in every conversation."""
    with ModelServer(ten_tool_script()) as model:
        yield model


@pytest.fixture(scope="module")
def ten_tools_stack(
    ten_tools_model: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningStack]:
    """A stack with one runner that asks that model."""
    home: Path = tmp_path_factory.mktemp("ten-tools")
    stack = RunningStack(
        home, server_environment=QUICK_HEARTBEAT, runner_environment=runner_environment(ten_tools_model)
    )
    with stack:
        yield stack
