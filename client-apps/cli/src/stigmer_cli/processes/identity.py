"""Tells one process from a later one with the same pid, so that a stale file never ends a stranger.

Imports only the standard library where it can: the guard, which must stay small, uses it too.
"""

import functools
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stigmer_contract.process_stat import stat_fields

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class ProcessIdentity:
    """A process: its pid, and a mark of its start that no later process with that pid shares."""

    pid: int
    mark: str

    def is_alive(self) -> bool:
        """Whether that very process still runs; one that ended and waits for its parent does not."""
        return identify(self.pid) == self

    def send(self, signal_number: int, *, to_group: bool = False) -> bool:
        """Sends a signal to that very process, or to the group that it leads; False where it has ended."""
        if not self.is_alive():
            return False
        try:
            if to_group:
                os.killpg(self.pid, signal_number)
            else:
                os.kill(self.pid, signal_number)
        except ProcessLookupError:
            return False
        return True


def identify(pid: int) -> ProcessIdentity | None:
    """The process that has the pid now; None where there is none, or only its exit code is left."""
    return _identify_by_proc(pid) if sys.platform == "linux" else _identify_by_psutil(pid)


def end_processes(grace_seconds: Mapping[ProcessIdentity, float]) -> None:
    """Asks processes to end, and kills each, with its group, that does not within its grace."""
    for process in grace_seconds:
        process.send(signal.SIGTERM)
    asked_at = time.monotonic()
    waited_for = set(grace_seconds)
    while waited_for := {process for process in waited_for if process.is_alive()}:
        passed = time.monotonic() - asked_at
        killed = {process for process in waited_for if passed >= grace_seconds[process]}
        for process in killed:
            process.send(signal.SIGKILL, to_group=True)
        waited_for -= killed
        time.sleep(_POLL_SECONDS)


def uptime_seconds(identity: ProcessIdentity) -> float | None:
    """For how long the process has run; None where it has ended."""
    import psutil

    if not identity.is_alive():
        return None
    try:
        return max(0.0, time.time() - psutil.Process(identity.pid).create_time())
    except psutil.Error:
        return None


def _identify_by_proc(pid: int) -> ProcessIdentity | None:
    # The boot and the start in clock ticks since it: unlike a time of day, a stepped clock leaves them alone.
    try:
        fields = stat_fields(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, start_ticks = fields[0], fields[19]
    return None if state in (b"Z", b"X") else ProcessIdentity(pid, f"{_boot_id()}:{start_ticks.decode()}")


@functools.cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _identify_by_psutil(pid: int) -> ProcessIdentity | None:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return ProcessIdentity(pid, f"{process.create_time():.2f}")
    except psutil.NoSuchProcess:
        return None
