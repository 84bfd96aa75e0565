"""Tells whether commands of a dead runner on this machine still live: until they end, they hold its lock.

A runner locks a file of its own and hands the descriptor to the processes that watch over its commands; the
kernel lets go of the lock when the last of them is gone. A runner that is frozen holds its lock itself, so
the file also says whether there are commands, and which process the runner is. Runners of one
SANDBOX_ROOT_DIR find each other.
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

from stigmer_contract.process_stat import stat_fields
from stigmer_contract.runner_names import MARKER_BYTES, RUNNER_FILES, runner_file_name

logger = logging.getLogger(__name__)

WAIT_SECONDS: Final = 15.0
"""Longest wait for commands of a dead runner: what cannot be killed for so long will not end soon."""
STOPPED_SECONDS: Final = 0.2
"""Longest wait for commands of a runner that is stopped: it can end none, so what has not ended by now goes
on until the runner does. Its leg's call is one of unknown outcome in any case."""
KEPT_SECONDS: Final = 86_400.0
"""Of a lock file that nobody holds any more."""
_LOOK_SECONDS: Final = 0.02
_NO_COMMANDS: Final = b"\0"
_COMMANDS: Final = b"\1"
"""Behind the marker; files of runners that do not say it end there. Then comes which process it is."""


class RunnerLocks:
    """The locks in a SANDBOX_ROOT_DIR, one of them our own."""

    def __init__(self, root: Path, runner: str) -> None:
        """Takes nothing yet."""
        self._directory = root / RUNNER_FILES
        self._runner = runner
        self._held: int | None = None
        self._said = _NO_COMMANDS

    def hold(self) -> int:
        """Take our own lock; gives the descriptor, which whoever is to hold it on inherits.

        Raises:
            OSError: no file can be made there, or the disk is full.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remove_old()
        descriptor = os.open(self._path(self._runner), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Written, not only made long enough: where the disk is full by the time that the marker in it is
            # first set, that would end the process (SIGBUS).
            os.pwrite(descriptor, bytes(MARKER_BYTES) + self._said + _process_mark(os.getpid()), 0)
        except OSError:
            os.close(descriptor)
            raise
        self._held = descriptor
        return descriptor

    def tell_in_hand(self, commands: int) -> None:
        """Say in our file whether there are commands. Call it before one is begun, and after its end."""
        said = _COMMANDS if commands else _NO_COMMANDS
        if self._held is None or said == self._said:
            return
        try:
            os.pwrite(self._held, said, MARKER_BYTES)
            self._said = said
        except OSError as error:  # so it says nothing, and is waited for in any case
            logger.warning("whether there are commands could not be said: %s", error)
            os.ftruncate(self._held, MARKER_BYTES)
            self._said = b""

    async def wait_for_ends(self, runners: Iterable[str]) -> None:
        """Wait until no command of these runners lives on this machine, for `WAIT_SECONDS` at most."""
        began = time.monotonic()
        for runner in set(runners) - {self._runner}:
            while self._has_commands(runner):
                waited = time.monotonic() - began
                if waited > WAIT_SECONDS or (waited > STOPPED_SECONDS and self._is_stopped(runner)):
                    logger.warning("commands of the lost runner %s still live; going on beside them", runner)
                    return
                await asyncio.sleep(_LOOK_SECONDS)

    def _has_commands(self, runner: str) -> bool:
        try:
            descriptor = os.open(self._path(runner), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # of another machine, or long gone
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(descriptor, 1, MARKER_BYTES) != _NO_COMMANDS
        finally:
            os.close(descriptor)
        return False

    def _is_stopped(self, runner: str) -> bool:
        """Whether its process is on this machine, and stands still (SIGSTOP, a debugger)."""
        try:
            said = self._path(runner).read_bytes()[MARKER_BYTES + 1 :]
            pid, _, _ = said.partition(b" ")
            return said == _process_mark(int(pid), states=b"Tt")
        except (OSError, ValueError):
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


def _process_mark(pid: int, states: bytes = b"") -> bytes:
    """Id and start of a process, by which it is told from any other one; empty where it is not known, or is
    in none of the states (proc_pid_stat(5))."""
    try:
        fields = stat_fields(pid)
    except OSError:
        return b""
    return b"" if states and fields[0] not in states else b"%d %s" % (pid, fields[19])
