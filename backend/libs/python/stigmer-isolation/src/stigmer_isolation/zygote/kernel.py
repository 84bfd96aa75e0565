"""System calls that Python has no function for, by number. Knows nothing of what they are for."""

import ctypes
import os
import platform
import sys
from typing import Final

IS_LINUX: Final = sys.platform == "linux"
MACHINE: Final = platform.machine() if IS_LINUX else ""
"""`x86_64` or `aarch64` where the tables of `system_calls` apply."""

LIBC: Final = ctypes.CDLL(None, use_errno=True)


def system_call(number: int, *arguments: "int | ctypes.Structure | ctypes.c_char_p | None") -> int:
    """Make a system call; integers are passed as longs, structures by their address.

    Raises:
        OSError: it failed.
    """
    passed = [
        ctypes.c_long(argument)
        if isinstance(argument, int)
        else ctypes.c_void_p(None)
        if argument is None
        else ctypes.byref(argument)
        if isinstance(argument, ctypes.Structure)
        else argument
        for argument in arguments
    ]
    LIBC.syscall.restype = ctypes.c_long
    result: int = LIBC.syscall(ctypes.c_long(number), *passed)
    if result < 0:
        raise_errno()
    return result


def control_process(option: int, value: int = 0, third: int = 0) -> int:
    """prctl(2) with numbers.

    Raises:
        OSError: it failed.
    """
    result: int = LIBC.prctl(
        ctypes.c_int(option),
        ctypes.c_ulong(value),
        ctypes.c_ulong(third),
        ctypes.c_ulong(0),
        ctypes.c_ulong(0),
    )
    if result < 0:
        raise_errno()
    return result


def forbid_new_privileges() -> None:
    """Let no program gain privileges by being executed (setuid), which Landlock and seccomp ask for."""
    pr_set_no_new_privs = 38  # prctl(2)
    control_process(pr_set_no_new_privs, 1)


def raise_errno() -> None:
    """Raise what the last call into libc left behind."""
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))
