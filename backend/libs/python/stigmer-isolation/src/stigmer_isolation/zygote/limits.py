"""What a command's processes may use of the machine; a process applies it to itself, its children inherit it.

The kernel has no limit for the sum of a command's processes that an unprivileged program could set; the
container's own limits bound that, and the disk is watched by the launcher.
"""

import contextlib
import os
import resource
import sys
from typing import Final

NICENESS: Final = 10
"""Commands give way to who starts them."""
OPEN_FILES: Final = 4096
KEPT_OPEN_FILES: Final = 1024
"""So many fewer than who starts them may have, where that has few itself: the kernel counts a user's
descriptors that are on their way through sockets, and lets nobody send one who may open fewer files than that
(unix(7), ETOOMANYREFS). One message carries 253."""
MIN_OPEN_FILES: Final = 1024
"""Programs expect as many as usual."""
QUEUED_SIGNALS: Final = 4096
"""These, timers among them, are counted by user, too: others may have more (getrlimit(2))."""
COMMAND_OOM_SCORE: Final = 1000
"""When memory runs out, commands are killed first ..."""
SUPERVISOR_OOM_SCORE: Final = 900
"""... and only then who has to clean up after them (proc(5), oom_score_adj: -1000 to 1000)."""


def limit_process(*, processes: int | None, memory_bytes: int | None, file_bytes: int | None) -> None:
    """Apply the limits to this process; None: no limit of that kind.

    Args:
        processes: of the whole user, threads counted, also those outside; root is exempt from it.
        memory_bytes: private memory of each process.
        file_bytes: size of each file, in memory too.
    """
    _lower(resource.RLIMIT_CORE, 0)
    _, open_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if open_files == resource.RLIM_INFINITY:
        open_files = OPEN_FILES + KEPT_OPEN_FILES
    _lower(resource.RLIMIT_NOFILE, min(OPEN_FILES, max(MIN_OPEN_FILES, open_files - KEPT_OPEN_FILES)))
    if sys.platform == "linux":
        _lower(resource.RLIMIT_SIGPENDING, QUEUED_SIGNALS)
    for kind, limit in (
        (resource.RLIMIT_NPROC, processes),
        # RLIMIT_AS would count what runtimes such as node reserve by the terabyte and never use.
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
    ):
        if limit is not None:
            _lower(kind, limit)


def give_way() -> None:
    """Let every other process of the machine go first."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


def set_oom_score(score: int) -> None:
    """How soon this process is killed when memory runs out. A lower score than before needs privileges."""
    with contextlib.suppress(OSError):  # not on Linux, or /proc cannot be written
        descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"%d" % score)
        finally:
            os.close(descriptor)


def _lower(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(kind, (limit, limit))
