"""Gives up every privilege of the process, also those that a program would gain by being executed as root."""

import ctypes
from typing import Final

from stigmer_isolation.zygote.kernel import LIBC, control_process

_PR_CAPBSET_DROP, _PR_SET_SECUREBITS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 28, 47, 4  # prctl(2)
_NOROOT_LOCKED: Final = 0b11
"""The user id 0 means nothing for privileges, and that stays so (capabilities(7), securebits)."""
_LAST_POSSIBLE: Final = 63
_VERSION_3: Final = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def drop_capabilities() -> None:
    """Drop all of them. For root too: it can then use its own files only, and may own nobody else's."""
    for capability in range(_LAST_POSSIBLE + 1):
        if not _try_control(_PR_CAPBSET_DROP, capability):
            break  # EINVAL: none left; EPERM: without privileges there is nothing to drop
    _try_control(_PR_SET_SECUREBITS, _NOROOT_LOCKED)
    _try_control(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    none = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, two words each
    LIBC.capset(ctypes.byref(_Header(_VERSION_3, 0)), ctypes.byref(none))


def _try_control(option: int, value: int) -> bool:
    try:
        control_process(option, value)
    except OSError:
        return False
    return True
