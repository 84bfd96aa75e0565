"""Gives a command a /dev/shm of its own, where the machine lets that be mounted.

Landlock cannot tell a command's names there from those of other programs: all are files of one directory.
So the directory is another one, in a mount namespace that ends with the command. Root needs no more;
other users make a user namespace first, which some machines and most container engines forbid.
"""

import ctypes
import functools
import os
from typing import Final

from stigmer_isolation.zygote.kernel import IS_LINUX, LIBC, raise_errno

DIRECTORY: Final = "/dev/shm"  # noqa: S108 - mounted over, not used
LEAST_BYTES: Final = 64 << 20
"""What container engines give a whole container."""
_SHARE_OF_MEMORY: Final = 8

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_SLAVE = 2, 4, 8, 1 << 14, 1 << 19


@functools.cache
def can_be_own() -> bool:
    """Whether it works here, tried in a process that ends."""
    if not IS_LINUX or not os.path.isdir(DIRECTORY):  # noqa: PTH112 - as in the rest of this folder
        return False
    try:
        pid = os.fork()
    except OSError:
        return False
    if pid == 0:
        try:
            mount_own(None)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def mount_own(memory_bytes: int | None) -> None:
    """Leave the machine's /dev/shm behind. Only where `can_be_own`: a half-made namespace cannot be left.

    Args:
        memory_bytes: what a process may use; a part of it is the size.

    Raises:
        OSError: the kernel refuses.
    """
    user, group = os.getuid(), os.getgid()
    if LIBC.unshare(ctypes.c_int(_CLONE_NEWNS)) != 0:
        if LIBC.unshare(ctypes.c_int(_CLONE_NEWNS | _CLONE_NEWUSER)) != 0:
            raise_errno()
        for name, content in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            _write(f"/proc/self/{name}", content)
    # What is mounted and taken away outside later is seen in here, and not the other way round.
    _mount(None, b"/", None, _MS_REC | _MS_SLAVE, None)
    size = max(LEAST_BYTES, (memory_bytes or 0) // _SHARE_OF_MEMORY)
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _mount(b"tmpfs", DIRECTORY.encode("ascii"), b"tmpfs", flags, b"size=%d,mode=1777" % size)


def _mount(
    source: bytes | None, target: bytes, kind: bytes | None, flags: int, options: bytes | None
) -> None:
    if LIBC.mount(source, target, kind, ctypes.c_ulong(flags), options) != 0:
        raise_errno()


def _write(path: str, content: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, content.encode("ascii"))
    finally:
        os.close(descriptor)
