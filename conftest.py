"""What holds for the tests of all packages."""

import pytest
from hypothesis import settings

# Hypothesis fails an example that takes over 200 ms, which says how busy the machine is and nothing of the
# code. With CI set it leaves that out by itself.
settings.register_profile("any-machine", parent=settings(), deadline=None)
settings.load_profile("any-machine")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a container engine are marked as such: they have a verb of their own."""
    for item in items:
        if isinstance(item, pytest.Function) and "engine" in item.fixturenames:
            item.add_marker(pytest.mark.containers)
