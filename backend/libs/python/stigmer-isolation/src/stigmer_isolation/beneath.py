"""Opens a path beneath a directory without following any symbolic link, however the tree changes meanwhile.

Linux does it in one system call, openat2(2); elsewhere, and where a filter forbids that call, the path is
walked component by component. What a path means, and which links are welcome, its caller decides.
"""

import ctypes
import errno
import functools
import os
import stat
import sys

OPEN_DIRECTORY = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
"""Flags for a directory that is only passed through, needing no permission to list it."""

_SYS_OPENAT2 = 437  # the same on every architecture: added after their tables were unified (Linux 5.6)
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08  # openat2(2)
_MAX_TRIES = 64
"""EAGAIN means that something was renamed while the kernel walked the path; many are an attack."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(directory: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path`, relative and without `..`, beneath the open `directory`; the descriptor is not inherited.

    Raises:
        OSError: as open(2); ELOOP where any component is a symbolic link, EXDEV where the path leads out.
    """
    if has_openat2():
        return _openat2(directory, path, flags | os.O_CLOEXEC, mode)
    return walk_beneath(directory, path, flags | os.O_CLOEXEC, mode)


@functools.cache
def has_openat2() -> bool:
    """Whether the kernel has openat2 and lets this process use it."""
    if sys.platform != "linux":
        return False
    root = os.open("/", OPEN_DIRECTORY)
    try:
        os.close(_openat2(root, ".", OPEN_DIRECTORY, 0))
    except OSError:
        return False
    finally:
        os.close(root)
    return True


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _openat2(directory: int, path: str, flags: int, mode: int) -> int:
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise ValueError("embedded null byte")
    # The kernel refuses a mode where nothing can be created.
    how = _OpenHow(flags, mode if flags & os.O_CREAT else 0, 0)
    how.resolve = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS
    for _ in range(_MAX_TRIES):
        descriptor: int = _libc().syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(directory),
            ctypes.c_char_p(encoded),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if descriptor >= 0:
            return descriptor
        error = ctypes.get_errno()
        if error not in (errno.EAGAIN, errno.EINTR):
            raise OSError(error, os.strerror(error), path)
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)


def walk_beneath(directory: int, path: str, flags: int, mode: int = 0) -> int:
    """`open_beneath` with nothing but openat and O_NOFOLLOW."""
    components = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in components:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    if not components:
        return os.open(".", flags, mode, dir_fd=directory)
    current = os.dup(directory)
    try:
        for name in components[:-1]:
            following = _open_here(current, name, OPEN_DIRECTORY, 0, path)
            os.close(current)
            current = following
        return _open_here(current, components[-1], flags, mode, path)
    finally:
        os.close(current)


def _open_here(directory: int, name: str, flags: int, mode: int, path: str) -> int:
    try:
        descriptor = os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=directory)
    except OSError as error:
        # With O_DIRECTORY a link is reported as "not a directory" on Linux.
        code = errno.ELOOP if error.errno == errno.ENOTDIR and _is_link(directory, name) else error.errno
        assert code is not None
        raise OSError(code, os.strerror(code), path) from error
    # With O_PATH and O_NOFOLLOW, but without O_DIRECTORY, the link itself is opened.
    if stat.S_ISLNK(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return descriptor


def _is_link(directory: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except OSError:
        return False
