"""Fixtures that tests of several folders share. What they start is in `tests/support`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from running_stack import RunningStack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Temporal, server and a runner as processes, shared by the tests of a module."""
    home: Path = tmp_path_factory.mktemp("stigmer")
    with RunningStack(home) as running:
        yield running
