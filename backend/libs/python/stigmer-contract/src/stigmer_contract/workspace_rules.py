"""Which directories an agent may be given to work in: one table of rules, the same for all programs.

Pure: what a directory is, and what there is around it, is told in values (`workspace_directories` finds them
on this machine). A program that knows only a path's text judges that, one that has opened the directory
judges what it has opened, by the same table.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import PurePosixPath
from typing import Final

PATH_MAX_BYTES: Final = 4096
"""PATH_MAX of Linux, with the null character at the end."""


ROOT: Final = 0
"""The user id of the machine's administrator, who is nobody to be protected from."""


@dataclass(frozen=True, slots=True)
class Step:
    """One directory on the way from a directory up to the root."""

    identity: Hashable
    """Equal for the same directory: device and number of what was opened, or its path's text."""
    owner: int | None = None
    """The user's id; None: not known."""
    others_may_write: bool = False
    """Whether another user than its owner and root may put something in its place or into it."""
    is_git: bool = False
    """Whether Git would take it for a repository's own, whatever its name."""


@dataclass(frozen=True, slots=True)
class Source:
    """What of a file system a directory is; mounts show the same at several paths."""

    file_system: str
    path: str
    """In the file system, from its root; absolute."""

    def lies_in(self, other: "Source") -> bool:
        """Whether it is the other, or is beneath it."""
        above = other.path.rstrip("/")
        return self.file_system == other.file_system and f"{self.path}/".startswith(f"{above}/")


@dataclass(frozen=True, slots=True)
class Place:
    """A directory, and each one above it."""

    path: str
    """Absolute, without `.`, `..` and `//`; the text is only shown, and gives the names of the steps."""
    steps: tuple[Step, ...]
    """Itself first, the root last; as many as the path has parts."""
    source: Source | None = None
    """None: not known."""
    mounted: tuple[Source, ...] = ()
    """What is mounted in it."""

    @classmethod
    def of_text(cls, path: str) -> "Place":
        """Of a path that nobody has looked at.

        Raises:
            ValueError: it is not absolute, or leads through `.` or `..`; says what is wrong as a clause.
        """
        if not path.startswith("/"):
            raise ValueError("the path is not absolute")
        try:
            length = len(path.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError:
            raise ValueError("the path is not valid text") from None
        if length >= PATH_MAX_BYTES:
            raise ValueError(f"the path has {PATH_MAX_BYTES} bytes or more")
        if "\0" in path:
            raise ValueError("the path holds a null character")
        pure = PurePosixPath("/" + path.lstrip("/"))
        if ".." in pure.parts:
            raise ValueError("the path leads through `..`")
        return cls(str(pure), tuple(Step(str(above)) for above in (pure, *pure.parents)))

    def height_of(self, other: "Place") -> int | None:
        """How many steps above this one the other is: 0 where it is the same; None where it is not above."""
        wanted = other.steps[0].identity
        return next((height for height, step in enumerate(self.steps) if step.identity == wanted), None)

    def name_at(self, height: int) -> str:
        """The name of the directory that many steps above."""
        return PurePosixPath(self.path).parts[len(self.steps) - 1 - height]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What there is on a machine that an agent must not be given."""

    state: tuple[Place, ...] = ()
    """Where Stigmer keeps its own: `STIGMER_HOME`, and `SANDBOX_ROOT_DIR` where that is elsewhere."""
    sessions: tuple[Place, ...] = ()
    """Where sessions have directories of their own: `SANDBOX_ROOT_DIR`."""
    programs: tuple[Place, ...] = ()
    """Where the programs of the stack load code from."""
    system: tuple[Place, ...] = ()
    """The machine's own directories."""
    homes: tuple[Place, ...] = ()
    home_parents: tuple[Place, ...] = ()
    """Directories in which each one is a home."""
    temporary: tuple[Place, ...] = ()
    """Where everybody may make files."""
    searched: tuple[Place, ...] = ()
    """Where programs are looked for: the folders on `PATH`."""
    activated: tuple[Place, ...] = ()
    """Such folders of virtual environments, each of which the project that holds it may change."""
    users: frozenset[int] = frozenset()
    """Whose directories are one's own among everybody's temporary files."""


class Kind(StrEnum):
    """Why a directory is refused; the rows of `RULES`."""

    HOME = "home"
    SESSION = "session"
    STATE = "state"
    PROGRAM = "program"
    SYSTEM = "system"
    HIDDEN = "hidden"
    COMMAND = "command"
    TEMPORARY = "temporary"
    GIT = "git"
    SEARCHED = "searched"
    FOREIGN = "foreign"


class Relation(Enum):
    """How a directory stands to a place that is protected."""

    IS = "is"
    HOLDS = "holds"
    LIES_IN = "lies in"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table."""

    refused: frozenset[Relation]
    what: str
    """What the place is, after `is`, `holds` or `lies in`."""
    remedy: str


_CLOSEST_FIRST: Final = (Relation.IS, Relation.LIES_IN, Relation.HOLDS)
_ALL: Final = frozenset(Relation)
_NOT_IN: Final = frozenset({Relation.IS, Relation.HOLDS})
_NOT_ABOVE: Final = frozenset({Relation.IS, Relation.LIES_IN})

RULES: Final[dict[Kind, Rule]] = {
    Kind.HOME: Rule(
        _NOT_IN,
        "a home directory as a whole, with its keys, histories and settings",
        "name a directory in it that holds only what the agent needs",
    ),
    Kind.SESSION: Rule(
        _NOT_ABOVE,
        "the directory of all sessions' own files",
        "go on with that session by `--session ID`, or name a directory of your own",
    ),
    Kind.STATE: Rule(
        _ALL,
        "Stigmer's own state, with its tokens, keys and every session",
        "name a directory outside of STIGMER_HOME",
    ),
    Kind.PROGRAM: Rule(
        _ALL,
        "the installation of Stigmer, which would run what an agent writes there",
        "let the agent work in a directory beside the installation, which holds only what it needs",
    ),
    Kind.SYSTEM: Rule(
        _ALL,
        "a directory of the system, which other programs rely on",
        "name a directory of your own, in your home directory or in /srv",
    ),
    Kind.HIDDEN: Rule(
        _NOT_ABOVE,
        "a hidden directory of a home, where programs keep keys and settings",
        "copy what the agent needs into a directory of its own",
    ),
    Kind.COMMAND: Rule(
        _NOT_ABOVE,
        "the temporary directory of a command of another session",
        "make a directory of your own, as by `mktemp -d`",
    ),
    Kind.TEMPORARY: Rule(
        _NOT_IN,
        "a directory for everybody's temporary files",
        "make a directory of your own in it, as by `mktemp -d`",
    ),
    Kind.GIT: Rule(
        _NOT_ABOVE,
        "a git directory, whose hooks and settings are run by whoever uses the repository",
        "name the directory that the repository's files are checked out in",
    ),
    Kind.SEARCHED: Rule(
        _ALL,
        "a folder on PATH, whose programs your next command would run",
        "name a directory beside it, which holds only what the agent needs",
    ),
    Kind.FOREIGN: Rule(
        frozenset({Relation.LIES_IN}),
        "a directory for everybody's temporary files, and is not yours alone",
        "make a directory of your own, as by `mktemp -d`, which others cannot write to",
    ),
}
"""In the order of their precedence: the first that holds is told."""

COMMAND_NAME: Final = re.compile(r"stigmer-([0-9a-f]{32}|(calibration|enclosure|self-test|temporary)-.*)")
"""What commands and self-tests of agents' runners, earlier ones too, are given among everybody's temporary
files."""


def is_git_directory(holds: Callable[[str], bool]) -> bool:
    """Whether Git would take what holds these names for a repository's own directory, or a work tree's.

    As `is_git_directory` of Git 2.47 (setup.c), which looks closer at each of them.
    """
    return holds("HEAD") and (holds("commondir") or (holds("objects") and holds("refs")))


def is_git_name(name: str) -> bool:
    """Whether a repository's own directory is called so; many file systems do not tell cases apart."""
    return name.casefold() == ".git"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a directory is not one for an agent."""

    kind: Kind
    reason: str
    """A clause, such as `it is a home directory as a whole, …`."""
    remedy: str
    """What to do instead, imperative."""


def refuse(directory: Place, surroundings: Surroundings) -> Refusal | None:
    """Why an agent may not work in a directory; None: it may."""
    found = list(_relations(directory, surroundings))
    for kind, rule in RULES.items():
        for relation in (relation for found_kind, relation in found if found_kind is kind):
            if relation in rule.refused:
                return Refusal(kind, f"it {relation.value} {rule.what}", rule.remedy)
    return None


def is_within(directory: Place, roots: Iterable[Place]) -> bool:
    """Whether it is one of the roots, or lies in one."""
    return any(directory.height_of(root) is not None for root in roots)


def _relations(directory: Place, around: Surroundings) -> Iterator[tuple[Kind, Relation]]:
    """How the directory stands to what is protected; of a kind the closest first."""
    for kind, places in (
        (Kind.SESSION, around.sessions),
        (Kind.STATE, around.state),
        (Kind.PROGRAM, around.programs),
        (Kind.SEARCHED, around.searched),
    ):
        yield from _stands(kind, directory, places)
    for kind, relation in _stands(Kind.SEARCHED, directory, around.activated):
        if relation is not Relation.HOLDS:
            yield kind, relation
    for height, step in enumerate(directory.steps):
        if step.is_git or is_git_name(directory.name_at(height)):
            yield Kind.GIT, Relation.LIES_IN if height else Relation.IS
    homes = _homes_above(directory, around)
    shared = [height for place in around.temporary if (height := directory.height_of(place)) is not None]
    own_ground = min([*homes, *shared], default=None)
    yield from _stands(Kind.SYSTEM, directory, around.system, unless_in=own_ground)
    if 0 in homes:
        yield Kind.HOME, Relation.IS
    elif any(place.height_of(directory) is not None for place in (*around.homes, *around.home_parents)):
        yield Kind.HOME, Relation.HOLDS
    hidden = [height - 1 for height in homes if height and _is_private(directory.name_at(height - 1))]
    if hidden:
        yield Kind.HIDDEN, Relation.LIES_IN if min(hidden) else Relation.IS
    for shown in filter(None, (directory.source, *directory.mounted)):
        yield from _shown_of_homes(shown, around, is_inside=shown is not directory.source)
    yield from _stands(Kind.TEMPORARY, directory, around.temporary)
    for height in shared:
        if height and COMMAND_NAME.fullmatch(directory.name_at(height - 1)):
            yield Kind.COMMAND, Relation.LIES_IN if height > 1 else Relation.IS
        if height and not _is_ones_own(directory.steps[:height], around.users):
            yield Kind.FOREIGN, Relation.LIES_IN


def _stands(
    kind: Kind, directory: Place, places: Iterable[Place], *, unless_in: int | None = None
) -> Iterator[tuple[Kind, Relation]]:
    """How the directory stands to the places, the closest relation of all.

    `unless_in`: so many steps above is a place that is one's own ground, also where a place of these is
    further above.
    """
    found = set[Relation]()
    for place in places:
        height = directory.height_of(place)
        is_root = len(place.steps) == 1  # in which everything lies
        if height == 0:
            found.add(Relation.IS)
        elif height is None:
            if place.height_of(directory) is not None:
                found.add(Relation.HOLDS)
            elif not is_root:
                found.update(_by_mounts(directory, place, is_own_ground=unless_in is not None))
        elif not is_root and (unless_in is None or unless_in > height):
            found.add(Relation.LIES_IN)
    yield from ((kind, relation) for relation in _CLOSEST_FIRST if relation in found)


def _by_mounts(directory: Place, place: Place, *, is_own_ground: bool) -> Iterator[Relation]:
    """How the directory stands to a place that other mounts show there, or in it, by another path."""
    if place.source is None or directory.source is None:
        return
    if directory.source.lies_in(place.source) and not is_own_ground:
        yield Relation.IS if place.source.lies_in(directory.source) else Relation.LIES_IN
    elif place.source.lies_in(directory.source):
        yield Relation.HOLDS
    if any(one.lies_in(place.source) or place.source.lies_in(one) for one in directory.mounted):
        yield Relation.HOLDS


def _homes_above(directory: Place, around: Surroundings) -> list[int]:
    """How many steps above the directory there is a home; 0: it is one."""
    found = [height for home in around.homes if (height := directory.height_of(home)) is not None]
    above = [height for place in around.home_parents if (height := directory.height_of(place)) is not None]
    found += [height - 1 for height in above if height]
    return sorted(set(found))


def _shown_of_homes(
    shown: Source, around: Surroundings, *, is_inside: bool
) -> Iterator[tuple[Kind, Relation]]:
    """A home, or a hidden directory of one, that a mount shows elsewhere, or `is_inside` what is judged."""
    for home in around.homes:
        if home.source is None:
            continue
        if home.source.lies_in(shown) and len(home.steps) > 1 and (is_inside or shown.lies_in(home.source)):
            yield Kind.HOME, Relation.HOLDS if is_inside else Relation.IS
        elif shown.lies_in(home.source):
            names = PurePosixPath(shown.path).relative_to(home.source.path).parts
            if names and _is_private(names[0]):
                yield Kind.HIDDEN, Relation.LIES_IN


def _is_private(name: str) -> bool:
    return name.startswith(".") or name == "Library"  # of macOS: keychains, cookies, mail


def _is_ones_own(steps: tuple[Step, ...], users: frozenset[int]) -> bool:
    """Whether nobody else can write to a directory or put another in its place; the directory first."""
    owners = [step.owner for step in steps if step.owner is not None]
    return (
        (steps[0].owner is None or steps[0].owner in users)
        and users.union([ROOT]).issuperset(owners)
        and not any(step.others_may_write for step in steps)
    )
