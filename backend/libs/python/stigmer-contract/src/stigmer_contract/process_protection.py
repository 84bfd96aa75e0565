"""Shields a program's memory and environment from other processes of its user: commands of agents, above all.

Every process of ours that holds a secret calls it as the first thing it does. Loads nothing to speak of.
"""

import ctypes
import sys

_PR_SET_DUMPABLE = 4  # prctl(2)


def protect_process() -> bool:
    """Make this process undumpable: other processes of its user can no longer read its secrets.

    `/proc/PID/environ`, `mem`, `maps`, `fd` and ptrace are then for root only, and no core is dumped.
    Forked children are protected too, but not those that execute a program, so that each has to do it itself
    or be given no secrets. It stops neither signals nor changes of limits and priority, and hides nothing
    from root.

    Returns:
        Whether it took effect; False on systems without it (macOS).
    """
    if sys.platform != "linux":
        return False
    result: int = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return result == 0
