"""Finds programs that are executed outside of isolation: the system's own, and none that a command wrote.

`PATH` is not asked. It belongs to a person, who works in directories that commands are given too.
"""

# ruff: noqa: PTH116, PTH120 - paths here are text, as the kernel takes them

import os
import stat
from collections.abc import Iterator
from typing import Final

SYSTEM_DIRECTORIES: Final = (
    "/usr/bin",
    "/bin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/bin",
    "/run/current-system/sw/bin",  # NixOS
)


def find_system_program(name: str) -> str | None:
    """The real path of a program of the system that nobody but root and this user could have changed."""
    for directory in SYSTEM_DIRECTORIES:
        path = os.path.realpath(f"{directory}/{name}")
        if os.access(path, os.X_OK) and is_out_of_others_reach(path):
            return path
    return None


def is_out_of_others_reach(path: str) -> bool:
    """Whether nobody but root and this user can write to a real path, or put another in its place."""
    try:
        found = [os.stat(step, follow_symlinks=False) for step in with_parents(path)]
    except OSError:
        return False
    return all(
        status.st_uid in (0, os.getuid()) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        for status in found
    )


def with_parents(path: str) -> Iterator[str]:
    """A path, and each directory above it."""
    yield path
    while path != os.path.dirname(path):
        path = os.path.dirname(path)
        yield path
