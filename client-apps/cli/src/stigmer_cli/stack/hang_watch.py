"""Judges whether a process hangs: it runs, was ready before, and has not answered for long.

Silence counts only on a clock that stands still while the machine is suspended (Linux's CLOCK_MONOTONIC),
only while whoever listens runs on time itself, and only while nobody has stopped the process (SIGSTOP).
"""

import http.client
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from stigmer_contract.process_stat import stat_fields

PROBE_SECONDS = 2.0
"""Longest wait for one answer."""
INTERVAL_SECONDS = 1.0
LATE_SECONDS = 2.0
"""A look that comes later than this tells that we did not run ourselves; nothing is known of that time."""


class Pulse(Enum):
    """What came of one question."""

    ANSWERED = auto()
    """Also where nobody listens: then it is no hang, whatever it is."""
    SILENT = auto()
    STOPPED = auto()
    """Somebody has stopped the process, and may let it go on."""


@dataclass
class HangWatch:
    """Counts the silence of one process."""

    hang_seconds: float
    clock: Callable[[], float] = time.monotonic
    _silent_seconds: float = field(default=0.0, init=False)
    _looked_at: float | None = field(default=None, init=False)

    def look(self, pulse: Pulse, asked_at: float) -> bool:
        """Take the outcome of a question that was asked at a time of the clock; whether the process hangs."""
        now, before = self.clock(), self._looked_at
        self._looked_at = now
        is_late = before is None or now - before > INTERVAL_SECONDS + PROBE_SECONDS + LATE_SECONDS
        if pulse is not Pulse.SILENT or is_late or now - asked_at > PROBE_SECONDS + LATE_SECONDS:
            self._silent_seconds = 0.0
            return False
        assert before is not None
        self._silent_seconds += now - before
        return self._silent_seconds >= self.hang_seconds


def take_pulse(address: str, pid: int) -> Pulse:
    """Ask a process's `/healthz`, which answers as long as its event loop turns."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PROBE_SECONDS)
    try:
        connection.request("GET", "/healthz")
        connection.getresponse()
    except TimeoutError:
        return Pulse.STOPPED if is_stopped(pid) else Pulse.SILENT
    except (OSError, http.client.HTTPException):
        return Pulse.ANSWERED
    finally:
        connection.close()
    return Pulse.ANSWERED


def is_stopped(pid: int) -> bool:
    """Whether the process is stopped by a signal or a debugger."""
    if sys.platform != "linux":
        import psutil

        try:
            return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
        except psutil.Error:
            return False
    try:
        return stat_fields(pid)[0] in (b"T", b"t")
    except OSError:
        return False
