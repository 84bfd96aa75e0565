"""Locks between processes, held by an open file: the kernel gives them back when the holder dies."""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from stigmer_cli.errors import EnvironmentNotReady

_POLL_SECONDS = 0.02


class FileLock:
    """An exclusive lock on a file of its own, which holds nothing and is never removed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Takes the lock; False where another process holds it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Gives the lock back; does nothing where it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock. Takes nobody's turn: it asks for a shared lock."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


@contextmanager
def hold(path: Path, timeout_seconds: float) -> Generator[None]:
    """Holds the lock for a `with` block.

    Raises:
        EnvironmentNotReady: another process held it for all of the time.
    """
    lock = FileLock(path)
    deadline = time.monotonic() + timeout_seconds
    while not lock.acquire():
        if time.monotonic() >= deadline:
            raise EnvironmentNotReady(
                "could not change the stack: "
                f"another `stigmer` command has been doing so for {timeout_seconds:.0f} s",
                "wait for it to end, then try again",
            )
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()
