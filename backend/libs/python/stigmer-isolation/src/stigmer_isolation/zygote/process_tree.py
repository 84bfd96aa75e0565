"""Finds, kills and reaps all that a process started, also what tried to get away: daemons, orphans, bombs.

On Linux orphans are adopted by the nearest reaper above them, so a reaper's descendants are all that its
children ever started. Elsewhere (macOS) only the direct children can be found.
"""
# ruff: noqa: PTH110, PTH208 - pathlib would be a good part of what the zygote loads

import contextlib
import ctypes
import os
import select
import signal
import time
from collections.abc import Iterable
from typing import Final

from stigmer_isolation.zygote.kernel import IS_LINUX, LIBC

KILL_SECONDS: Final = 5.0
"""After this long what cannot be killed (a setuid program, a hung disk) is left, and counted as survivor."""
HAS_CHILDREN_FILES: Final = os.path.exists(f"/proc/self/task/{os.getpid()}/children")

_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36  # prctl(2)


def become_reaper(name: bytes) -> None:
    """Adopt orphaned descendants, and bear a name that `killall python` does not match."""
    if IS_LINUX:
        LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        LIBC.prctl(_PR_SET_NAME, ctypes.c_char_p(name), 0, 0, 0)


def watch_children() -> int:
    """A descriptor that becomes readable when a child ends."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, ignore_signal)
    return reader


def ignore_signal(number: int, frame: object) -> None:
    """A handler that only lets the signal be noticed; ignored, children would vanish unreaped."""


def drain(descriptor: int) -> None:
    """Empty a descriptor of `watch_children`."""
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass


def read_file(path: str) -> bytes:
    """A small file of /proc."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 1 << 20)
    finally:
        os.close(descriptor)


def kill_all(children_ended: int, *, is_domain_closed: bool = False) -> int:
    """Kill every descendant of this process; how many could not be killed in time.

    Args:
        children_ended: as `watch_children` gave it.
        is_domain_closed: whether this process can signal its descendants only (`enter_supervisor_domain`), so
            that one call reaches them all at once, however fast they fork.
    """
    give_up_at, pause = time.monotonic() + KILL_SECONDS, 1.0
    poller = select.poll()
    poller.register(children_ended, select.POLLIN)
    while reap()[1]:
        if is_domain_closed:
            send_signal(-1, signal.SIGKILL)
            alive = 1  # how many, kill(2) does not tell
        else:
            alive = kill_tree(os.getpid(), ())
        if time.monotonic() > give_up_at:
            return alive
        poller.poll(pause)  # ends at once when a child does, as where processes fork and end in turn
        pause = min(50.0, pause * 1.5)
        drain(children_ended)
    return 0


def ask_to_end(*, is_domain_closed: bool) -> None:
    """Send SIGTERM to every descendant of this process; what it does about that is its own affair."""
    if is_domain_closed:
        send_signal(-1, signal.SIGTERM)
        return
    pending = children_of(os.getpid())
    while pending:
        pid = pending.pop()
        pending += children_of(pid)
        send_signal(pid, signal.SIGTERM)


def kill_tree(root: int, spared: Iterable[int]) -> int:
    """Stop, then kill the descendants of `root` that exist now, but not the `spared` children; how many."""
    found, pending = list[int](), [pid for pid in children_of(root) if pid not in spared]
    while pending:
        pid = pending.pop()
        # Stopped, it can neither fork nor end, so that its children are still found below it.
        send_signal(pid, signal.SIGSTOP)
        found.append(pid)
        pending += children_of(pid)
    for pid in found:
        send_signal(pid, signal.SIGKILL)
    return len(found)


def children_of(pid: int) -> list[int]:
    """The children of all threads of a process."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        return [
            int(child)
            for thread in threads
            for child in read_file(f"/proc/{pid}/task/{thread}/children").split()
        ]
    except FileNotFoundError:
        return [] if HAS_CHILDREN_FILES else children_by_parent(pid)
    except OSError:
        return []


def children_by_parent(parent: int) -> list[int]:
    """`children_of` for kernels without CONFIG_PROC_CHILDREN: look at every process."""
    found = list[int]()
    for name in os.listdir("/proc") if IS_LINUX else ():
        if name.isdigit():
            with contextlib.suppress(OSError):
                # The name, in parentheses, may hold anything; the parent is the second field after it.
                if int(read_file(f"/proc/{name}/stat").rpartition(b")")[2].split()[1]) == parent:
                    found.append(int(name))
    return found


def reap() -> tuple[dict[int, int], bool]:
    """Collect children that have ended: exit code or negative signal by pid, and whether any child is left.

    An orphan is adopted and so a child; where none is left, no descendant is.
    """
    ended = dict[int, int]()
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, False
        if pid == 0:
            return ended, True
        ended[pid] = os.waitstatus_to_exitcode(status)


def send_signal(pid: int, number: int) -> None:
    """Signal a process that may have ended, or belong to another user."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
