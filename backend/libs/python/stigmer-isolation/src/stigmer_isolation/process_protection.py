"""Shields a process's own memory and environment from the commands it starts. Shields nothing else."""

import ctypes
import sys

_PR_SET_DUMPABLE = 4  # prctl(2)


def protect_process() -> bool:
    """Make this process undumpable: other processes of its user can no longer read its secrets.

    `/proc/PID/environ`, `mem`, `maps`, `fd` and ptrace are then for root only, and no core is dumped.
    Children that execute a program are dumpable again, so call this in the process that holds the secrets. It
    stops neither signals nor changes of limits and priority, and hides nothing from root.

    Returns:
        Whether it took effect; False on systems without it (macOS).
    """
    if sys.platform != "linux":
        return False
    result: int = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return result == 0
