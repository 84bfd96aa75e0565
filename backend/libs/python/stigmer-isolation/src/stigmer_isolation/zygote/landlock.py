"""Landlock: a process gives up access to files, TCP ports and other processes, for itself and all it starts.

A *ruleset* first names the kinds of access that it handles; all of these are then forbidden, except where a
rule allows one beneath a directory or on a port. Entering it makes a *domain*. A domain entered inside
another can only be narrower. A process in a domain can neither trace nor look into (`/proc/PID/environ`,
`mem`, `fd`) any process that is not in the same domain or one within.

The kernel offers more from version to version; `abi_version` says what there is (Documentation of Linux
6.18, userspace-api/landlock). What is not handled stays allowed: chmod, utime, stat, inotify, UDP.
"""

import ctypes
import os
import stat
from collections.abc import Iterable
from typing import Final

from stigmer_isolation.zygote.kernel import IS_LINUX, system_call

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION_FLAG = 1
_RULE_PATH_BENEATH, _RULE_NET_PORT = 1, 2

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_CHAR, _MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM = (
    1 << bit for bit in range(6, 13)
)
_REFER, TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

READ: Final = READ_FILE | READ_DIR
READ_AND_EXECUTE: Final = READ | EXECUTE
EVERYTHING_BUT_DEVICES: Final = (1 << 16) - 1 & ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV)
MAKE_AND_USE_FILES: Final = READ_FILE | WRITE_FILE | TRUNCATE | _MAKE_REG | REMOVE_FILE
"""In a directory whose other files cannot be listed."""
USE_FILE: Final = READ_FILE | WRITE_FILE | TRUNCATE

_ALLOWED_ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | _IOCTL_DEV
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_SCOPE_ABSTRACT_UNIX_SOCKET, _SCOPE_SIGNAL = 1 << 0, 1 << 1

# The first version with: rename across directories, truncate, TCP ports, ioctl on devices, scopes.
REFER_ABI, TRUNCATE_ABI, PORTS_ABI, _IOCTL_ABI, SCOPE_ABI = 2, 3, 4, 5, 6

_O_PATH = getattr(os, "O_PATH", os.O_RDONLY)


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class _NetPort(ctypes.Structure):
    _fields_ = (("allowed_access", ctypes.c_uint64), ("port", ctypes.c_uint64))


def abi_version() -> int:
    """What this kernel offers; 0 where it has no Landlock, or a filter forbids it."""
    if not IS_LINUX:
        return 0
    try:
        return system_call(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


class Ruleset:
    """Rules in the making. Close it by leaving its context; a domain that was entered stays."""

    def __init__(self, abi: int, *, files: bool, ports: bool) -> None:
        """Handles what version `abi` can of the kinds asked for; with `SCOPE_ABI` always the scopes.

        Raises:
            OSError: the kernel refuses, or nothing would be handled.
        """
        self._handled = 0
        if files:
            known = 13 + (abi >= REFER_ABI) + (abi >= TRUNCATE_ABI) + (abi >= _IOCTL_ABI)
            self._handled = (1 << known) - 1
        attributes = _RulesetAttributes(
            self._handled,
            _BIND_TCP | _CONNECT_TCP if ports and abi >= PORTS_ABI else 0,
            _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if abi >= SCOPE_ABI else 0,
        )
        # Older kernels refuse a longer structure than they know, unless the rest is zero; so does ours.
        self._descriptor = system_call(_CREATE_RULESET, attributes, ctypes.sizeof(attributes), 0)

    def __enter__(self) -> "Ruleset":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def allow_path(self, path: str, access: int) -> None:
        """Allow `access` on a file or beneath a directory; nothing where the path does not exist."""
        try:
            descriptor = os.open(path, _O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        try:
            self.allow_descriptor(descriptor, access)
        finally:
            os.close(descriptor)

    def allow_descriptor(self, descriptor: int, access: int) -> None:
        """`allow_path` on something that is open, which cannot be exchanged meanwhile."""
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _ALLOWED_ON_FILES
        rule = _PathBeneath(access & self._handled, descriptor)
        system_call(_ADD_RULE, self._descriptor, _RULE_PATH_BENEATH, rule, 0)

    def allow_connecting(self, ports: Iterable[int]) -> None:
        """Allow TCP connections to these ports, of any host."""
        for port in ports:
            system_call(_ADD_RULE, self._descriptor, _RULE_NET_PORT, _NetPort(_CONNECT_TCP, port), 0)

    def enter(self) -> None:
        """Hold the calling thread, and what it starts from now on, to the rules. For good.

        Raises:
            OSError: EPERM without `forbid_new_privileges`; E2BIG in the 17th domain within another.
        """
        system_call(_RESTRICT_SELF, self._descriptor, 0)
