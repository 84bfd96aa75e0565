"""Homes for the tests of the local stack; whatever still runs in them after a test is ended."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack_home import StackHome, end_everything, make_stack_home


@pytest.fixture
def stack_home(tmp_path: Path) -> Iterator[StackHome]:
    """A home with stand-ins, whose Temporal is elsewhere."""
    home = make_stack_home(tmp_path / "home", own_temporal=False)
    yield home
    end_everything(home)


@pytest.fixture
def temporal_home(tmp_path: Path) -> Iterator[StackHome]:
    """A home with stand-ins and a real Temporal of its own."""
    home = make_stack_home(tmp_path / "home", own_temporal=True)
    yield home
    end_everything(home)
