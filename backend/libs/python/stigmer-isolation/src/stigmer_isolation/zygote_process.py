"""The zygote as its launcher holds it: a child process and a socket. What goes on inside is `zygote.main`."""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from stigmer_isolation.running_command import CommandEnd
from stigmer_isolation.zygote.process_shares import SHARE_BYTES

STOP_SECONDS: Final = 15.0
"""Longest wait for the zygote to end; it first kills every command that still runs."""

ANNOUNCEMENT_SECONDS: Final = 5.0
"""Longest wait for bubblewrap to tell which process it started."""

MAX_OPEN_FILES: Final = 65_536

_SCRIPT = Path(__file__).with_name("zygote") / "main.py"


class ZygoteProcess:
    """A zygote, and the socket it takes commands from. `stop` and `sweep` block."""

    def __init__(
        self, prefix: Sequence[str] = (), held: Sequence[int] = (), *, cleared: str | None = None
    ) -> None:
        """Start it, with the command line of `prefix`, bubblewrap's, before its own.

        Descriptors of `held` it keeps open until its last command has ended; no command gets them. From
        `cleared` it removes at its end what killed launchers left there.

        Raises:
            OSError: no process or descriptor is to be had.
        """
        _allow_more_open_files()
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        self._swept = bytearray()
        self._lock, self._announcing = threading.Lock(), threading.Lock()
        self._inner_pid: int | None = None
        self._announcement: int | None = None
        """Where bubblewrap tells which process it started, until that is read."""
        with contextlib.ExitStack() as passed:
            passed.enter_context(theirs)
            descriptors = [theirs.fileno()]
            try:
                if prefix:
                    self._announcement, writer = os.pipe()
                    passed.callback(os.close, writer)
                    descriptors.append(writer)
                    prefix = [prefix[0], "--info-fd", str(writer), *prefix[1:]]
                script = [sys.executable, "-I", "-S", "-E", str(_SCRIPT), str(theirs.fileno())]
                self._process = subprocess.Popen(
                    [*prefix, *script, *([] if cleared is None else [cleared])],
                    pass_fds=[*descriptors, *held],
                    env={},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C in a terminal is this program's to handle
                )
            except OSError:
                self._close()
                raise
        self.is_in_bubblewrap = bool(prefix)
        """Whether its pids, and those of its commands, are other processes' outside."""

    @property
    def pid(self) -> int | None:
        """Its process id; None: bubblewrap could not start it."""
        if not self.is_in_bubblewrap:
            return self._process.pid
        with self._announcing:
            if self._announcement is not None:
                self._inner_pid = _read_announcement(self._announcement)
                os.close(self._announcement)
                self._announcement = None
        return self._inner_pid

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def send(self, descriptors: list[int], share: int | None) -> None:
        """Ask for a supervisor with these descriptors, in the order that `zygote` gives.

        `share` is how many processes the command's session may have.

        Raises:
            BlockingIOError: its queue is full.
            OSError: it is gone.
        """
        socket.send_fds(self._control, [(share or 0).to_bytes(SHARE_BYTES, "big")], descriptors)

    def sweep(self, end: CommandEnd, timeout_seconds: float) -> bool:
        """Kill a supervisor that hangs, and wait until its orphans are dead; whether that was reported."""
        self._signal(signal.SIGCONT)  # stopped by a command, perhaps
        if end.supervisor is None:
            return not end.is_hanging
        if end.is_hanging and self.is_in_bubblewrap:
            self.kill()
            return True
        if end.is_hanging:  # else its pid may be another's by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(end.supervisor, signal.SIGKILL)
        line, give_up_at = b"%d\n" % end.supervisor, time.monotonic() + timeout_seconds
        with self._lock:
            while line not in self._swept:
                is_readable = _is_readable(self._control.fileno(), max(0.0, give_up_at - time.monotonic()))
                chunk = self._control.recv(4096) if is_readable else b""
                if not chunk:  # too late, or the zygote died, and with it all that was in there with it
                    return is_readable and self.is_in_bubblewrap
                self._swept += chunk
            self._swept = self._swept.replace(line, b"")
        return True

    def kill(self) -> None:
        """End it at once. Its commands go on, watched by their supervisors; in bubblewrap they die too."""
        self._signal(signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Let it kill what runs, and end."""
        with contextlib.suppress(OSError):
            self._control.send(b".")  # it is no death, after which it would have to clear up
        self._control.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._close()

    def _signal(self, number: int) -> None:
        """Signal the zygote itself, while whoever is to reap it is there: else its pid may be another's."""
        if self.is_alive() and self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _close(self) -> None:
        self._control.close()
        with self._announcing:
            if self._announcement is not None:
                os.close(self._announcement)
                self._announcement = None


def _allow_more_open_files() -> None:
    """Have a higher limit than commands: else their descriptors on their way keep those for a zygote back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if sys.platform == "linux" and soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _is_readable(descriptor: int, timeout_seconds: float) -> bool:
    """Wait until something can be read there. By poll: select takes no descriptor beyond 1023."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(timeout_seconds * 1000))


def _read_announcement(descriptor: int) -> int | None:
    """The pid that bubblewrap announces, as this process sees it."""
    said, give_up_at = b"", time.monotonic() + ANNOUNCEMENT_SECONDS
    while _is_readable(descriptor, max(0.0, give_up_at - time.monotonic())):
        chunk = os.read(descriptor, 4096)
        if not chunk:
            break
        said += chunk
    try:
        pid: int = json.loads(said)["child-pid"]
    except (ValueError, KeyError):
        return None
    return pid
