"""Looks at a directory that an agent may be given, and at what there is around it on this machine.

A directory is opened step by step from the root, and through no symbolic link: what a session may write to
can turn into a link between two looks. What is allowed decides `workspace_rules`. POSIX only.
"""

# ruff: noqa: PTH120 - paths here are text, as the kernel takes them

import errno
import grp
import importlib.util
import os
import pwd
import re
import site
import stat
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from stigmer_contract.workspace_rules import (
    ROOT,
    Place,
    Refusal,
    Source,
    Step,
    Surroundings,
    is_git_directory,
    refuse,
)

PROGRAMS: Final = ("stigmer_cli", "stigmer_server", "agent_runner", "stigmer_contract", "stigmer_isolation")
"""The packages of the stack, which a checkout has in folders of their own."""

SYSTEM_DIRECTORIES: Final = (
    # What the system is made of, and the state of its services.
    "/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin",
    "/snap", "/sys", "/usr", "/var/backups", "/var/cache", "/var/lib", "/var/lock", "/var/log", "/var/mail",
    "/var/run", "/var/spool",
    # Programs that commands of every session may read.
    "/gnu/store", "/nix", "/opt",
    # macOS
    "/Applications", "/Library", "/System", "/private/etc", "/private/var/db", "/private/var/log",
    "/private/var/root",
)  # fmt: skip
CONTAINED_USER: Final = 1000
"""The user (and group) of the runner's image, as which a container runs that root starts."""
HOMES: Final = ("/root", "/var/root")
HOME_PARENTS: Final = ("/home", "/Users", "/var/home")
TEMPORARY_DIRECTORIES: Final = ("/tmp", "/var/tmp", "/dev/shm", "/private/tmp")  # noqa: S108 - judged, not used

_OPEN: Final = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)


class LinkOnTheWay(OSError):
    """The path leads through a symbolic link."""

    def __init__(self, path: str, link: str) -> None:
        super().__init__(errno.ELOOP, "the path leads through a symbolic link", path)
        self.link = link


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells a directory from another one that stands at its path later."""

    file_system: int
    """The file system's own id, which unlike the number of its device is the same after a restart."""
    number: int
    """Of the directory's inode."""
    owner: int
    """The user's id."""

    @classmethod
    def of(cls, descriptor: int) -> Self:
        """Of an open directory.

        Raises:
            OSError: the descriptor is none.
        """
        status = os.fstat(descriptor)
        return cls(os.fstatvfs(descriptor).f_fsid, status.st_ino, status.st_uid)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote.

        Raises:
            ValueError: the text is something else.
        """
        file_system, number, owner = map(int, text.split())
        return cls(file_system, number, owner)

    def __str__(self) -> str:
        return f"{self.file_system} {self.number} {self.owner}"


@dataclass(frozen=True, slots=True)
class OpenedDirectory:
    """A directory that is held open while it is judged."""

    descriptor: int
    """For passing through; not to be listed."""
    place: Place
    identity: Identity


@contextmanager
def opened(path: str, mounts: "Sequence[Mount] | None" = None) -> Generator[OpenedDirectory]:
    """Open a directory through no link, and close it at the end. `mounts`: None: as they are now.

    Raises:
        ValueError: the path is not absolute, or leads through `..`.
        LinkOnTheWay: the path leads through a symbolic link.
        OSError: there is no such directory, or it may not be entered.
    """
    text, mounts = Place.of_text(path), read_mounts() if mounts is None else mounts
    names = text.path.split("/")[1:] if text.path != "/" else []
    current, steps, walked = os.open("/", _OPEN), list[Step](), ""
    try:
        steps.append(_step(current))
        for name in names:
            walked = f"{walked}/{name}"
            following = _open_in(current, name, walked)
            os.close(current)
            current = following
            steps.append(_step(current))
        place = Place(text.path, tuple(reversed(steps)), *_shown_at(current, text.path, mounts))
        yield OpenedDirectory(current, place, Identity.of(current))
    finally:
        os.close(current)


def look_at(path: str, mounts: "Sequence[Mount] | None" = None) -> Place:
    """A directory as it stands now, links followed; what is missing of the path is taken by its text.

    `mounts`: None: as they are now; who looks at many directories reads them once.

    Raises:
        OSError: the path cannot be followed.
    """
    real = os.path.realpath(path)
    missing = list[str]()
    while not os.path.isdir(real):  # noqa: PTH112
        real, name = os.path.split(real)
        missing.append(name)
    with opened(real, mounts) as directory:
        return _below(directory.place, reversed(missing))


def look_through_no_link(path: str) -> Place:
    """A directory as it stands now; what is missing of the path is taken by its text.

    Raises:
        ValueError, LinkOnTheWay, OSError: as `opened`, but for what is missing.
    """
    present, missing = Place.of_text(path).path, list[str]()
    while True:
        try:
            with opened(present) as directory:
                return _below(directory.place, reversed(missing))
        except FileNotFoundError:
            present, name = os.path.split(present)
            missing.append(name)


def judge(path: str, surroundings: Surroundings) -> Refusal | None:
    """Why an agent may not work in the directory as it stands now; None: it may.

    Raises:
        ValueError, LinkOnTheWay, OSError: as `opened`.
    """
    with opened(path) as directory:
        return refuse(directory.place, surroundings)


def holds_name(directory: int, name: str) -> bool:
    """Whether the open directory has an entry of that name, be it a link that leads nowhere."""
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def surroundings_here(
    *,
    state: Iterable[Path],
    sessions: Iterable[Path],
    environment: Mapping[str, str] = os.environ,
    may_be_contained: bool = False,
) -> Surroundings:
    """What this machine holds that no agent may be given.

    Args:
        state: directories of Stigmer's own.
        sessions: where sessions have directories of their own.
        environment: of the program that judges, for its `PATH`.
        may_be_contained: whether a runner's container may be what works in the directory. Root's runs as
            `CONTAINED_USER`, whose directories are then root's own; a runner that sees the directory
            itself looks again, as the user that it is.
    """
    homes = [os.path.expanduser("~"), *HOMES]  # noqa: PTH111
    with suppress(KeyError):  # a container's user often has no entry
        homes.append(pwd.getpwuid(os.getuid()).pw_dir)
    temporary = [tempfile.gettempdir(), *TEMPORARY_DIRECTORIES]
    sessions = list(sessions)
    folders = [path for path in environment.get("PATH", "").split(os.pathsep) if path.startswith("/")]
    activated = {path for path in folders if os.path.isfile(f"{path}/../pyvenv.cfg")}  # noqa: PTH113
    mounts = read_mounts()  # a machine with many containers has many, and the kernel takes its time
    return Surroundings(
        state=_places((str(path) for path in (*state, *sessions)), mounts),
        sessions=_places(map(str, sessions), mounts),
        programs=_places(_code_directories(), mounts),
        system=_places(_existing(SYSTEM_DIRECTORIES), mounts),
        homes=_places(_existing(homes), mounts),
        home_parents=_places(_existing(HOME_PARENTS), mounts),
        temporary=_places(_existing(temporary), mounts),
        searched=_as_named_and_meant((path for path in folders if path not in activated), mounts),
        activated=_as_named_and_meant(activated, mounts),
        users=frozenset(
            [os.getuid()] + ([CONTAINED_USER] if may_be_contained and os.getuid() == ROOT else [])
        ),
    )


def surroundings_in_text(*, state: Iterable[str] = ()) -> Surroundings:
    """What any machine holds that no agent may be given, for judging a path of a machine elsewhere."""
    return Surroundings(
        state=_texts(state),
        system=_texts(SYSTEM_DIRECTORIES),
        homes=_texts(HOMES),
        home_parents=_texts(HOME_PARENTS),
        temporary=_texts(TEMPORARY_DIRECTORIES),
    )


def _code_directories() -> set[str]:
    """From where this Python loads code, be it by an editable installation, or would as another user's."""
    found = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, *site.getsitepackages()}
    with suppress(OSError, KeyError, RuntimeError):  # no home is known
        found.add(site.getusersitepackages())
    # Not the first entry where that is the folder that the command was called in, or a script's.
    found.update(sys.path[0 if sys.flags.safe_path else 1 :])
    for name in PROGRAMS:
        specification = importlib.util.find_spec(name)
        if specification is not None and specification.origin:
            found.add(os.path.dirname(os.path.dirname(specification.origin)))
    found.add(os.path.dirname(os.path.realpath(sys.executable)))
    return {path for path in found if path and os.path.realpath(path) != "/"}


def _existing(paths: Iterable[str]) -> Iterator[str]:
    return (path for path in paths if path and os.path.isdir(path))  # noqa: PTH112


def _places(paths: Iterable[str], mounts: "Sequence[Mount]") -> tuple[Place, ...]:
    found: dict[str, Place] = {}
    for path in paths:
        if path.startswith("/"):
            with suppress(OSError, ValueError):
                place = look_at(path, mounts)
                found[place.path] = place
    return tuple(found.values())


def _as_named_and_meant(paths: Iterable[str], mounts: "Sequence[Mount]") -> tuple[Place, ...]:
    """Where the paths lead, and where their last links stand, which others could be put in the place of."""
    found = list[Place]()
    for path in map(os.path.normpath, paths):
        if os.path.islink(path):  # noqa: PTH114
            above, name = os.path.split(path)
            found += (_below(place, [name]) for place in _places([above], mounts))
        found += (place for place in _places([path], mounts) if place.path != "/")
    return tuple(found)


def _below(place: Place, names: Iterable[str]) -> Place:
    """What is called so there, by its text."""
    for name in names:
        path = f"{place.path.rstrip('/')}/{name}"
        source = place.source and Source(place.source.file_system, f"{place.source.path.rstrip('/')}/{name}")
        place = Place(path, (Step(path), *place.steps), source)
    return place


def _texts(paths: Iterable[str]) -> tuple[Place, ...]:
    return tuple(Place.of_text(path) for path in paths)


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount of this process, as proc_pid_mountinfo(5) has it."""

    number: str
    source: Source
    point: str


def read_mounts() -> list[Mount]:
    """Of this process; none where the system does not tell."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError:
        return []
    parts = [line.split(" ") for line in lines if line]
    return [
        Mount(part[0], Source(part[2], _unescaped(part[3])), _unescaped(part[4]))
        for part in parts
        if len(part) > 4
    ]


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path)


def _shown_at(
    directory: int, path: str, mounts: "Sequence[Mount]"
) -> tuple[Source | None, tuple[Source, ...]]:
    """What the open directory is of its file system, and what is mounted in it."""
    try:
        about = Path(f"/proc/self/fdinfo/{directory}").read_text(encoding="ascii")
    except OSError:
        return None, ()
    number = next((line.split()[1] for line in about.split("\n") if line.startswith("mnt_id:")), None)
    inside = tuple(mount.source for mount in mounts if mount.point.startswith(f"{path.rstrip('/')}/"))
    for mount in mounts:
        if mount.number == number and f"{path}/".startswith(f"{mount.point.rstrip('/')}/"):
            below = path.removeprefix(mount.point.rstrip("/")).strip("/")
            whole = f"{mount.source.path.rstrip('/')}/{below}".rstrip("/") or "/"
            return Source(mount.source.file_system, whole), inside
    return None, inside


def _open_in(directory: int, name: str, walked: str) -> int:
    try:
        return os.open(name, _OPEN, dir_fd=directory)
    except OSError as error:
        if _is_link(directory, name):
            raise LinkOnTheWay(walked, walked) from error
        raise OSError(error.errno, os.strerror(error.errno or 0), walked) from error


def _is_link(directory: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _step(descriptor: int) -> Step:
    status = os.fstat(descriptor)
    others = bool(status.st_mode & stat.S_IWOTH) or (
        bool(status.st_mode & stat.S_IWGRP) and not _is_ones_own_group(status.st_gid)
    )
    is_git = is_git_directory(lambda name: holds_name(descriptor, name))
    return Step((status.st_dev, status.st_ino), status.st_uid, others, is_git)


def _is_ones_own_group(group_id: int) -> bool:
    """Whether nobody else is in the group: many systems give each user one, which may write."""
    if group_id == 0:
        return True
    try:
        user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(group_id)
    except KeyError:
        # A container's user has no entry; the number is then the person's own group, as it was given.
        return group_id == os.getgid()
    return (
        user.pw_gid == group_id
        and set(group.gr_mem) <= {user.pw_name}
        and group.gr_name in (user.pw_name, "root")
    )
