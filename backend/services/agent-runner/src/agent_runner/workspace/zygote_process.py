"""The zygote as the runner holds it: a child process and a socket. What goes on inside it is `zygote`."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

from agent_runner.workspace.running_command import CommandEnd

STOP_SECONDS: Final = 15.0
"""Longest wait for the zygote to end; it first kills every command that still runs."""

_SCRIPT = Path(__file__).with_name("zygote.py")


class ZygoteProcess:
    """A zygote, and the socket it takes commands from. `stop` and `sweep` block."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            OSError: no process or descriptor is to be had.
        """
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        self._swept = bytearray()
        self._lock = threading.Lock()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-E", str(_SCRIPT), str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env={},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C in a terminal is the runner's to handle
                )
        except OSError:
            self._control.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def send(self, descriptors: list[int]) -> None:
        """Ask for a supervisor with these descriptors, in the order that `zygote` gives.

        Raises:
            BlockingIOError: its queue is full.
            OSError: it is gone.
        """
        socket.send_fds(self._control, [b"c"], descriptors)

    def sweep(self, end: CommandEnd, timeout_seconds: float) -> bool:
        """Kill a supervisor that hangs, and wait until its orphans are dead; whether that was reported."""
        # Stopped by a command, perhaps.
        self._process.send_signal(signal.SIGCONT)
        if end.supervisor is None:
            return not end.is_hanging
        if end.is_hanging:  # else its pid may be another's by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(end.supervisor, signal.SIGKILL)
        line, give_up_at = b"%d\n" % end.supervisor, time.monotonic() + timeout_seconds
        with self._lock:
            while line not in self._swept:
                readable, _, _ = select.select(
                    [self._control], [], [], max(0.0, give_up_at - time.monotonic())
                )
                chunk = self._control.recv(4096) if readable else b""
                if not chunk:  # too late, or the zygote died
                    return False
                self._swept += chunk
            self._swept = self._swept.replace(line, b"")
        return True

    def kill(self) -> None:
        """End it at once. Commands that run go on, watched by their supervisors."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Let it kill what runs, and end."""
        self._control.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
