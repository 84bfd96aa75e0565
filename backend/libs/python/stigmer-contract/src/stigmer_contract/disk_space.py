"""How much room a disk has left, and from when on a person is warned: the same in every program."""

import os
from pathlib import Path
from typing import Final

LOW_BYTES: Final = 1024**3
"""Below this a person is warned."""


def free_bytes(directory: Path) -> int | None:
    """What an ordinary user may still write on the directory's disk; None: it cannot be told."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def warning_of(what: str, free: int | None) -> str | None:
    """One line where there is little room left for `what`; None where there is enough."""
    if free is None or free >= LOW_BYTES:
        return None
    return f"only {free / 1024**2:,.0f} MiB are free for {what}"
