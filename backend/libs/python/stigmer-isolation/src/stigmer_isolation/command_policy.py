"""Decides what commands may read and execute on this machine: the system, and the programs on `PATH`.

Everything else is closed to them, a person's home directory above all. What is the session's own is added
when a command starts. How the kernel is told is `zygote`'s matter.
"""

# ruff: noqa: PTH116, PTH117, PTH119, PTH120 - paths here are text, as the kernel and the zygote take them

import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from stigmer_isolation.system_programs import with_parents
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
_MARKS_OF_A_CONTAINER: Final = ("/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io")

_PROGRAM_DIRECTORIES: Final = ("bin", "sbin", "shims")
_PARTS_OF_AN_INSTALLATION: Final = (
    "bin", "sbin", "shims", "lib", "lib32", "lib64", "libexec", "include", "share", "pyvenv.cfg",
    # what else belongs to: pyenv, asdf, Homebrew, conda, a JDK, Go, volta
    "versions", "plugins", "pyenv.d", "version", "installs", "Cellar", "opt", "ssl", "conf", "jmods", "pkg",
    "tools",
)  # fmt: skip
"""So much of the directory above a `bin`. Not all of it: `~/.cargo` holds credentials beside its `bin`."""
_MARKS_OF_AN_INSTALLATION: Final = ("lib", "lib32", "lib64", "libexec", "pyvenv.cfg", "Cellar", "versions")


def command_policy(
    path: str,
    *,
    readable: Iterable[Path] = (),
    home: Path | None = None,
    withheld: Iterable[Path] = (),
) -> Policy:
    """The strongest policy that this machine allows, for commands that find programs by `path`.

    Args:
        path: the commands' `PATH`.
        readable: further files and directories that commands may read and execute.
        home: the home directory that stays closed; default: the user's.
        withheld: files and directories that no grant may reach: the caller's own state, and what some
            command can write to. Programs on `path` that lie there are not granted, and a link that lies
            there is not followed.
    """
    closed = _real(map(str, withheld))
    policy = Policy(
        landlock_abi=abi_version(),
        has_seccomp=bool(numbers_for(MACHINE)) and is_available(),
        readable=(*_SYSTEM_FILES, *_configuration(), *_existing(map(os.path.realpath, _LINKED_FROM_ETC))),
        executable=(
            *_existing(_SYSTEM_PROGRAMS),
            *program_directories(path, home or Path.home(), closed),
            *map(str, readable),
        ),
        devices=_DEVICES,
        # What engines give a container is nobody else's, but its sessions share it.
        shared_memory="either" if _has_a_containers_memory() else "own",
    )
    return withhold(policy, closed)


def withhold(policy: Policy, withheld: Iterable[str]) -> Policy:
    """The policy without what leads to files and directories that commands must not get by it.

    A grant of what holds one of them becomes grants of everything in it but that; what is made there later is
    not granted then.
    """
    closed = _real(withheld)
    return policy._replace(
        readable=tuple(_without(policy.readable, closed)),
        executable=tuple(_without(policy.executable, closed)),
    )


def program_directories(path: str, home: Path, withheld: Iterable[str] = ()) -> list[str]:
    """What must be readable for the programs on `path` to work, beyond the system's own directories.

    Besides each directory itself: the installation it belongs to, and where its links to programs lead: the
    program alone, or the installation where it lies in one. Nothing where others than this user and root
    could put a link. The interpreter that this program runs on counts as one of the programs.
    """
    closed = _real(withheld)
    found: dict[str, None] = {}
    pending = [directory for directory in path.split(os.pathsep) if os.path.isabs(directory)]
    pending.append(os.path.dirname(sys.executable))
    seen = set[str]()
    while pending:
        directory = pending.pop(0)
        real = os.path.realpath(directory)
        if directory in seen or is_beneath(directory, closed) or not _is_trusted(real, closed):
            continue
        seen.add(directory)
        parts = _installation(directory, home)
        if real != directory:
            # A link may lead anywhere; only what looks like programs is granted for it, and not by its name.
            if parts and os.path.basename(real) in _PROGRAM_DIRECTORIES:
                pending.append(real)
                found.update(dict.fromkeys([directory, *parts]))  # as bubblewrap has to show it
            continue
        found.update(dict.fromkeys(parts))
        for program in _programs_linked_from(directory, closed):
            within = os.path.dirname(program)
            if _is_in_an_installation(program):
                pending.append(within)
            elif not is_beneath(program, found):
                found[program] = None
    return outermost(part for part in found if not is_beneath(part, _SYSTEM_PROGRAMS))


def _installation(directory: str, home: Path) -> list[str]:
    """What belongs to the programs in a directory; a link among it only where it stays inside."""
    above, name = os.path.split(directory)
    if _holds(directory, home):  # the home directory itself, or one above it
        return []
    if name not in _PROGRAM_DIRECTORIES or _holds(above, home):
        return _existing([directory])
    # Keyrings and histories are kept in ~/.local/share.
    left_out = "share" if Path(above) == home / ".local" else None
    parts = _existing(f"{above}/{part}" for part in _PARTS_OF_AN_INSTALLATION if part != left_out)
    return [part for part in parts if is_beneath(os.path.realpath(part), [os.path.realpath(above)])]


def _is_in_an_installation(program: str) -> bool:
    """Whether a program lies in the `bin` of something that has libraries beside it."""
    above, name = os.path.split(os.path.dirname(program))
    if name not in _PROGRAM_DIRECTORIES:
        return False
    return any(os.path.lexists(f"{above}/{part}") for part in _MARKS_OF_AN_INSTALLATION)


def _programs_linked_from(directory: str, closed: list[str]) -> list[str]:
    """The programs that the links in a directory lead to, beyond the system's own."""
    found = set[str]()
    try:
        with os.scandir(directory) as entries:
            found.update(os.path.realpath(entry.path) for entry in entries if entry.is_symlink())
    except OSError:
        return []
    return sorted(
        program
        for program in found
        if not is_beneath(program, _SYSTEM_PROGRAMS) and _is_program(program) and _is_trusted(program, closed)
    )


def _is_program(path: str) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and bool(status.st_mode & 0o111)


def _is_trusted(path: str, closed: list[str]) -> bool:
    """Whether no command can write to a real path, and not everybody can, or put another in its place."""
    if is_beneath(path, closed):
        return False
    try:
        modes = [os.stat(step).st_mode for step in with_parents(path)]
    except OSError:
        return False
    # In a sticky directory, as /tmp is one, to each the own.
    return not modes[0] & stat.S_IWOTH and not any(
        mode & stat.S_IWOTH and not mode & stat.S_ISVTX for mode in modes[1:]
    )


def _without(grants: Iterable[str], closed: list[str]) -> list[str]:
    kept = list[str]()
    for grant in grants:
        real = os.path.realpath(grant)
        if is_beneath(real, closed):
            continue
        inner = [path for path in closed if is_beneath(path, [real])]
        if not inner:
            kept.append(grant)
            continue
        try:
            parts = [entry.path for entry in os.scandir(real) if not entry.is_symlink()]
        except OSError:
            continue  # what cannot be told apart is not granted
        kept += _without(parts, inner)
    return kept


def _real(paths: Iterable[str]) -> list[str]:
    return sorted({os.path.realpath(path) for path in paths})


def _has_a_containers_memory() -> bool:
    """Whether /dev/shm is of the container that this runs in, and not of the machine (`--ipc=host`).

    Engines mount it from `shm`, a machine's own comes from `tmpfs` with systemd (Docker 20.10, Podman 4.3,
    containerd's runtime specification).
    """
    if not any(Path(mark).exists() for mark in _MARKS_OF_A_CONTAINER):
        return False
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    here = [line.split()[0] for line in mounts.splitlines() if line.split()[1:2] == ["/dev/shm"]]  # noqa: S108 - not used
    return here[-1:] == ["shm"]


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
