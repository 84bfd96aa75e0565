"""Tells whether commands of a dead runner on this machine still live: until they end, they hold its lock.

A runner locks a file of its own and hands the descriptor to the processes that watch over its commands; the
kernel lets go of the lock when the last of them is gone. Runners of one SANDBOX_ROOT_DIR find each other.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from stigmer_contract.runner_names import MARKER_BYTES, RUNNER_FILES, runner_file_name

logger = logging.getLogger(__name__)

WAIT_SECONDS: Final = 15.0
"""Longest wait for commands of a dead runner: what cannot be killed for so long will not end soon."""
KEPT_SECONDS: Final = 86_400.0
"""Of a lock file that nobody holds any more."""
_LOOK_SECONDS: Final = 0.02


class RunnerLocks:
    """The locks in a SANDBOX_ROOT_DIR, one of them our own."""

    def __init__(self, sandbox_root: Path, runner: str) -> None:
        """Takes nothing yet."""
        self._directory = sandbox_root / RUNNER_FILES
        self._runner = runner

    def hold(self) -> int:
        """Take our own lock; gives the descriptor, which whoever is to hold it on inherits.

        Raises:
            OSError: no file can be made there.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remove_old()
        descriptor = os.open(self._path(self._runner), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, MARKER_BYTES)
        return descriptor

    async def wait_for_ends(self, runners: Iterable[str]) -> None:
        """Wait until nothing of these runners lives on this machine, for `WAIT_SECONDS` at most."""
        give_up_at = time.monotonic() + WAIT_SECONDS
        for runner in set(runners) - {self._runner}:
            while self._is_held(runner):
                if time.monotonic() > give_up_at:
                    logger.warning("commands of the lost runner %s still live; going on beside them", runner)
                    return
                await asyncio.sleep(_LOOK_SECONDS)

    def _is_held(self, runner: str) -> bool:
        try:
            descriptor = os.open(self._path(runner), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # of another machine, or long gone
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _remove_old(self) -> None:
        oldest = time.time() - KEPT_SECONDS
        for path in self._directory.iterdir():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < oldest:
                    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        path.unlink()
                    finally:
                        os.close(descriptor)

    def _path(self, runner: str) -> Path:
        return self._directory / runner_file_name(runner)
