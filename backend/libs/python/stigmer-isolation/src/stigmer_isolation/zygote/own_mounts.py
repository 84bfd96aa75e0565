"""Gives a command mounts of its own, where the machine lets that be: all read-only but what is the command's.

Landlock leaves modes and times of files open to whoever owns them; that the root user owns the machine's
devices, and every entry of /proc, it does not look at. A read-only mount looks at no owner. And Landlock
cannot tell a command's names in /dev/shm from those of other programs: so that directory is another one.

All of it is in a mount namespace that ends with the command. Root needs no more; other users, and commands
in bubblewrap, make a user namespace first, which some machines and most container engines forbid.
"""
# ruff: noqa: PTH109, PTH112, PTH116 - pathlib would be a good part of what the zygote loads

import ctypes
import errno
import functools
import os
from collections.abc import Sequence
from typing import Final

from stigmer_isolation.zygote.kernel import IS_LINUX, LIBC, raise_errno, system_call

SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - mounted over, not used
LEAST_SHARED_BYTES: Final = 64 << 20
"""What container engines give a whole container."""
_SHARE_OF_MEMORY: Final = 8

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_SLAVE = 2, 4, 8, 1 << 14, 1 << 19

# The same on every architecture, as are all calls since Linux 5.0.
_OPEN_TREE, _MOVE_MOUNT, _OPENAT2, _MOUNT_SETATTR = 428, 429, 437, 442
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE: Final = 1
_FROM_DESCRIPTOR, _TO_DESCRIPTOR = 0x04, 0x40  # MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH
_RDONLY: Final = 1  # MOUNT_ATTR_RDONLY
_NO_LINKS_AND_BENEATH: Final = 0x02 | 0x04 | 0x08  # RESOLVE_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH
_PLACE: Final = getattr(os, "O_PATH", 0) | os.O_DIRECTORY | os.O_CLOEXEC


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("cleared", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


class _HowToOpen(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@functools.cache
def can_be_own() -> bool:
    """Whether it works here, tried in a process that ends."""
    if not IS_LINUX:
        return False
    try:
        pid = os.fork()
    except OSError:
        return False
    if pid == 0:
        try:
            os.chdir("/usr")
            enter_own_mounts()
            mount_own_shared_memory(None)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def enter_own_mounts(
    writable: Sequence[str] = (), *, pinned: Sequence[str] = (), sealed: Sequence[str] = ()
) -> None:
    """Make everything read-only but the directory this process is in, and the trees in `writable`.

    Only where `can_be_own`: a half-made namespace cannot be left.

    Args:
        writable: absolute; what does not exist is skipped.
        pinned: directories beneath this process's, relative to it, parents first: they can neither be moved
            away nor removed.
        sealed: the same, and nothing in them can be changed.

    Raises:
        OSError: the kernel refuses. ESTALE: the directory is not where it was.
    """
    _separate()
    # Copies stay as they are, each with what is mounted in it, and are put over what becomes read-only.
    where, others = _outermost(writable)
    places = [place for place in map(_open_place, others) if place is not None]
    if where is None:
        places.append(os.open(".", _PLACE))
    copies = [_copy_of(place) for place in places]
    _make_read_only(_AT_FDCWD, b"/")
    for copy, place in zip(copies, places, strict=True):
        _put(copy, place)
    if where is None:
        os.fchdir(copies[-1])
    else:
        _enter_again(where)
    for path in pinned:
        _pin(path, is_sealed=False)
    for path in sealed:
        _pin(path, is_sealed=True)


def mount_own_shared_memory(memory_bytes: int | None) -> None:
    """Leave the machine's /dev/shm behind, if it has one; after `enter_own_mounts`.

    Args:
        memory_bytes: what a process may use; a part of it is the size.

    Raises:
        OSError: the kernel refuses.
    """
    if not os.path.isdir(SHARED_MEMORY):
        return
    size = max(LEAST_SHARED_BYTES, (memory_bytes or 0) // _SHARE_OF_MEMORY)
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _mount(b"tmpfs", SHARED_MEMORY.encode("ascii"), b"tmpfs", flags, b"size=%d,mode=1777" % size)


def _separate() -> None:
    """Enter a mount namespace of this process's own, where the directory it is in stays the same."""
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


def _outermost(writable: Sequence[str]) -> tuple[str | None, list[str]]:
    """Where this process is if that lies in one of these, and those that lie in none of the others.

    A tree within another comes with it: moves and hard links within one mount go on working.
    """
    try:
        here = os.getcwd()
    except OSError:  # too long for a path, so in none of them
        here = ""
    others = [
        path
        for path in dict.fromkeys(writable)
        if path != here
        and not (here and path.startswith(f"{here}/"))
        and not any(path.startswith(f"{other}/") for other in writable)
    ]
    return (here if any(here.startswith(f"{other}/") for other in others) else None), others


def _open_place(path: str) -> int | None:
    try:
        return os.open(path, _PLACE)
    except OSError:
        return None


def _copy_of(place: int) -> int:
    """A mount of the tree at an open directory, that is nowhere yet."""
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE | _OPEN_TREE_CLONE | os.O_CLOEXEC
    return system_call(_OPEN_TREE, place, ctypes.c_char_p(b""), flags)


def _put(copy: int, place: int) -> None:
    system_call(
        _MOVE_MOUNT,
        copy,
        ctypes.c_char_p(b""),
        place,
        ctypes.c_char_p(b""),
        _FROM_DESCRIPTOR | _TO_DESCRIPTOR,
    )


def _make_read_only(place: int, path: bytes) -> None:
    attributes = _MountAttributes(set=_RDONLY)
    flags = _AT_RECURSIVE | (0 if path else _AT_EMPTY_PATH)
    size = ctypes.sizeof(attributes)
    system_call(_MOUNT_SETATTR, place, ctypes.c_char_p(path), flags, attributes, size)


def _enter_again(path: str) -> None:
    """Go to where this process is already, but through what was put there meanwhile."""
    before = os.stat(".")
    os.chdir(path)
    if not os.path.samestat(before, os.stat(".")):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


def _pin(path: str, *, is_sealed: bool) -> None:
    """Make a directory a mount; nothing where there is none, or a link on the way."""
    how = _HowToOpen(flags=_PLACE, resolve=_NO_LINKS_AND_BENEATH)
    try:
        place = system_call(_OPENAT2, _AT_FDCWD, ctypes.c_char_p(os.fsencode(path)), how, ctypes.sizeof(how))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV):
            return
        raise
    copy = _copy_of(place)
    if is_sealed:
        _make_read_only(copy, b"")
    _put(copy, place)


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
