"""Makes a process believe that it is another time, by libfaketime; its monotonic clock is left alone."""

from pathlib import Path

import pytest

_LIBRARIES = ("/usr/lib/*-linux-gnu/faketime/libfaketime.so.1", "/usr/lib64/faketime/libfaketime.so.1")


def faked_clock(offset: str) -> dict[str, str]:
    """The variables for an offset such as `-1h`; leaves the test out where libfaketime is not installed."""
    found = [path for pattern in _LIBRARIES for path in Path("/").glob(pattern.removeprefix("/"))]
    if not found:
        pytest.skip("libfaketime is not installed")
    return {"LD_PRELOAD": str(found[0]), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
