"""Decides what commands may read and execute on this machine: the system, and the programs on `PATH`.

Everything else is closed to them, a person's home directory above all. What is the session's own is added
when a command starts. How the kernel is told is `zygote`'s matter.
"""

# ruff: noqa: PTH117, PTH120 - paths here are text, as the kernel and the zygote take them

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from stigmer_isolation.zygote.kernel import MACHINE
from stigmer_isolation.zygote.landlock import abi_version
from stigmer_isolation.zygote.policy import Policy
from stigmer_isolation.zygote.seccomp import is_available
from stigmer_isolation.zygote.system_calls import numbers_for

_SYSTEM_PROGRAMS: Final = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/gnu/store"
)  # fmt: skip
_SYSTEM_FILES: Final = (
    # Of /proc and /sys what runtimes ask for, and nothing that tells of other processes.
    "/proc/cpuinfo", "/proc/filesystems", "/proc/loadavg", "/proc/meminfo", "/proc/stat", "/proc/uptime",
    "/proc/version", "/proc/sys/fs/pipe-max-size", "/proc/sys/kernel/cap_last_cap",
    "/proc/sys/kernel/hostname", "/proc/sys/kernel/ngroups_max", "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/ostype", "/proc/sys/kernel/pid_max", "/proc/sys/kernel/random",
    "/proc/sys/kernel/threads-max", "/proc/sys/vm/max_map_count", "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/kernel/mm/transparent_hugepage",
    "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/memory.high", "/sys/fs/cgroup/memory.max",
    "/dev/random",
    "/dev/urandom",
)  # fmt: skip
_LINKED_FROM_ETC: Final = ("/etc/resolv.conf", "/etc/localtime", "/etc/ssl/certs", "/etc/pki")
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty")
_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - granted, not used

_PROGRAM_DIRECTORIES: Final = ("bin", "sbin", "shims")
_PARTS_OF_AN_INSTALLATION: Final = (
    "bin", "sbin", "shims", "lib", "lib32", "lib64", "libexec", "include", "share", "pyvenv.cfg",
    # what else belongs to: pyenv, asdf, Homebrew, conda, a JDK, Go, volta
    "versions", "plugins", "pyenv.d", "version", "installs", "Cellar", "opt", "ssl", "conf", "jmods", "pkg",
    "tools",
)  # fmt: skip
"""So much of the directory above a `bin`. Not all of it: `~/.cargo` holds credentials beside its `bin`."""


def command_policy(path: str, *, readable: Iterable[Path] = (), home: Path | None = None) -> Policy:
    """The strongest policy that this machine allows, for commands that find programs by `path`.

    Args:
        path: the commands' `PATH`.
        readable: further files and directories that commands may read and execute.
        home: the home directory that stays closed; default: the user's.
    """
    return Policy(
        landlock_abi=abi_version(),
        has_seccomp=bool(numbers_for(MACHINE)) and is_available(),
        readable=(*_SYSTEM_FILES, *_configuration(), *_existing(map(os.path.realpath, _LINKED_FROM_ETC))),
        executable=(
            *_existing(_SYSTEM_PROGRAMS),
            *program_directories(path, home or Path.home()),
            *map(str, readable),
        ),
        devices=_DEVICES,
        droppable=(_SHARED_MEMORY,),
    )


def program_directories(path: str, home: Path) -> list[str]:
    """What must be readable for the programs on `path` to work, beyond the system's own directories.

    Besides each directory itself: the installation it belongs to, and those that its links lead to. The
    interpreter that this program runs on counts as one.
    """
    found: dict[str, None] = {}
    pending = [directory for directory in path.split(os.pathsep) if os.path.isabs(directory)]
    pending.append(os.path.dirname(sys.executable))
    seen = set[str]()
    while pending:
        directory = pending.pop(0)
        if directory in seen:
            continue
        seen.add(directory)
        found.update(dict.fromkeys(_installation(directory, home)))
        pending += _directories_linked_from(directory)
    return outermost(part for part in found if not is_beneath(part, _SYSTEM_PROGRAMS))


def _installation(directory: str, home: Path) -> list[str]:
    above, name = os.path.split(directory)
    if _holds(directory, home):  # the home directory itself, or one above it
        return []
    if name not in _PROGRAM_DIRECTORIES or _holds(above, home):
        return _existing([directory])
    # Keyrings and histories are kept in ~/.local/share.
    left_out = "share" if Path(above) == home / ".local" else None
    return _existing(f"{above}/{part}" for part in _PARTS_OF_AN_INSTALLATION if part != left_out)


def _directories_linked_from(directory: str) -> list[str]:
    """Where the links in a directory lead, the directory's own place among them."""
    found = {os.path.realpath(directory)}
    try:
        with os.scandir(directory) as entries:
            found.update(
                os.path.dirname(os.path.realpath(entry.path)) for entry in entries if entry.is_symlink()
            )
    except OSError:
        return []
    return sorted(place for place in found if not is_beneath(place, _SYSTEM_PROGRAMS))


def _configuration() -> list[str]:
    """/etc; for root only the parts that everybody may read, since no file mode holds root back."""
    return ["/etc"] if os.getuid() != 0 else _parts_for_everybody("/etc") or []


def _parts_for_everybody(path: str) -> list[str] | None:
    """The largest parts of a tree that all users may read; None: the whole of it."""
    parts, is_whole = list[str](), True
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                mode = entry.stat(follow_symlinks=False).st_mode
                if entry.is_symlink():
                    continue
                is_directory = entry.is_dir(follow_symlinks=False)
                inner = _parts_for_everybody(entry.path) if is_directory and mode & 0o005 == 0o005 else None
                if not mode & 0o004 or inner is not None:
                    is_whole = False
                parts += [entry.path] if mode & 0o004 and inner is None else inner or []
    except OSError:
        return []
    return None if is_whole else parts


def _existing(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if os.path.lexists(path)]


def _holds(directory: str, inner: Path) -> bool:
    return Path(os.path.realpath(directory)) in (inner, *inner.parents)


def outermost(paths: Iterable[str]) -> list[str]:
    """Those that are in none of the others, parents first."""
    wanted = sorted(set(paths))
    return [path for path in wanted if not is_beneath(path, [other for other in wanted if other != path])]


def is_beneath(path: str, directories: Iterable[str]) -> bool:
    """Whether it is one of them, or in one of them. Looks at the text alone."""
    return any(path == directory or path.startswith(f"{directory}/") for directory in directories)
