"""Brings the files of a skill out of a git repository, by the person's own `git`, and keeps them.

Nothing is checked out, so that no hook, filter or submodule of the repository runs. A commit names its
content: what was fetched once is not asked for again.
"""

import contextlib
import hashlib
import os
import posixpath
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from stigmer_cli.commands.packed_files import FilesRefused, is_left_out
from stigmer_cli.config import load_configuration

if TYPE_CHECKING:
    from stigmer_contract.packs import PackedFile

FETCHED_SKILLS: Final = "skills"
"""In STIGMER_HOME: each as a pack, by repository, commit and folder."""
MAX_KEPT: Final = 200
_TIMEOUT_SECONDS: Final = 600
_LOCAL_VARIABLES: Final = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_DIR", "GIT_GRAFT_FILE",
        "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    }
)  # fmt: skip
"""They say where the repository around us is, as a hook has them (`git rev-parse --local-env-vars`)."""
_SETTINGS: Final = (
    "-c", "protocol.allow=never", "-c", "protocol.https.allow=always", "-c", "protocol.ssh.allow=always",
    "-c", "protocol.file.allow=always", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0",
)  # fmt: skip
_REGULAR: Final = "100644"
_EXECUTABLE: Final = "100755"
_LINK: Final = "120000"


class _Entry(NamedTuple):
    """A file of a commit."""

    mode: str
    object_id: str
    size_bytes: int


def git_skill_files(git: str, commit: str, folder: str) -> "Sequence[PackedFile]":
    """The files of a folder of a repository, as they were at a commit.

    Args:
        git: the repository's address.
        commit: its full id.
        folder: in the repository; empty: all of it.

    Raises:
        FilesRefused: they cannot be had.
    """
    from stigmer_contract.errors import PackError
    from stigmer_contract.packs import read_pack, write_pack

    home = load_configuration(os.environ).home
    key = hashlib.sha256("\0".join((git, commit, folder)).encode()).hexdigest()
    kept = home / FETCHED_SKILLS / f"{key}.tar"
    with contextlib.suppress(OSError, PackError):
        files = read_pack(kept.read_bytes())
        os.utime(kept)
        return files
    with tempfile.TemporaryDirectory(prefix="stigmer-skill-") as directory:
        files = _fetch(_Git(Path(directory)), git, commit, folder)
    with contextlib.suppress(PackError, OSError):  # told by whoever packs them, or fetched again
        _keep(kept, write_pack(files))
    return files


def _keep(place: Path, pack: bytes) -> None:
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, new = tempfile.mkstemp(dir=place.parent, prefix=".new-")
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(pack)
    Path(new).replace(place)
    newest = sorted(place.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in newest[MAX_KEPT:]:
        old.unlink()


class _Git:
    """`git` in a bare repository of our own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._environment: Mapping[str, str] = {
            **{name: value for name, value in os.environ.items() if name not in _LOCAL_VARIABLES},
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
        }

    def run(self, *arguments: str, given: bytes = b"") -> bytes:
        """What it prints.

        Raises:
            FilesRefused: it fails, or is not there.
        """
        try:
            completed = subprocess.run(
                ["git", *_SETTINGS, "-C", str(self._directory), *arguments],
                input=given,
                env=dict(self._environment),
                capture_output=True,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise FilesRefused(
                "skills of git repositories need the program `git`, which is not here"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise FilesRefused(f"`git {arguments[0]}` took more than {_TIMEOUT_SECONDS} s") from error
        if completed.returncode:
            said = completed.stderr.decode("utf-8", errors="replace").strip().splitlines()
            raise FilesRefused(f"`git {arguments[0]}` failed: {said[-1] if said else completed.returncode}")
        return completed.stdout


def _fetch(git: _Git, address: str, commit: str, folder: str) -> "Sequence[PackedFile]":
    from stigmer_contract.packs import MAX_PACK_BYTES, MAX_PACK_FILES, PackedFile

    object_format = "sha256" if len(commit) == 64 else "sha1"
    git.run("init", "--quiet", "--bare", "--template=", f"--object-format={object_format}")
    _fetch_commit(git, address, commit)
    tree = f"{commit}:{folder.strip('/')}"
    try:
        listed = git.run("ls-tree", "-r", "-z", "-l", tree)
    except FilesRefused as error:
        raise FilesRefused(f"the commit {commit[:12]} of {address} has no folder {folder!r}") from error
    entries = _entries(listed)
    size = sum(entry.size_bytes for entry in entries.values())
    if len(entries) > MAX_PACK_FILES or size > MAX_PACK_BYTES:
        raise FilesRefused(
            f"{folder!r} of {address} has more than {MAX_PACK_FILES} files, or more than "
            f"{MAX_PACK_BYTES >> 20} MiB"
        )
    contents = _contents(git, {entry.object_id for entry in entries.values()})
    files = list[PackedFile]()
    for path, entry in entries.items():
        meant = entry
        if entry.mode == _LINK:
            target = contents[entry.object_id].decode("utf-8", errors="replace")
            found = entries.get(posixpath.normpath(posixpath.join(posixpath.dirname(path), target)))
            if found is None or found.mode == _LINK:
                raise FilesRefused(f"{path!r} of {address} is a link to no file of the folder")
            meant = found
        files.append(PackedFile(path, contents[meant.object_id], meant.mode == _EXECUTABLE))
    return files


def _fetch_commit(git: _Git, address: str, commit: str) -> None:
    fetch = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
    try:
        git.run(*fetch, "--depth=1", "--end-of-options", address, commit)
        return
    except FilesRefused as error:
        first = error
    # Not every server gives a commit by its id.
    git.run(*fetch, "--end-of-options", address, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
    try:
        git.run("cat-file", "-e", f"{commit}^{{commit}}")
    except FilesRefused as error:
        raise FilesRefused(f"{address} has no commit {commit}: {first}") from error


def _entries(listed: bytes) -> dict[str, _Entry]:
    """The files in what `git ls-tree -r -z -l` prints, without those that no pack has."""
    entries = dict[str, _Entry]()
    for line in filter(None, listed.split(b"\0")):
        about, _, name = line.partition(b"\t")
        path = os.fsdecode(name)
        if any(is_left_out(part) for part in path.split("/")):
            continue
        mode, _, object_id, size = about.decode("ascii").split()
        if mode not in (_REGULAR, _EXECUTABLE, _LINK):
            raise FilesRefused(f"{path!r} is not a file, but another repository")
        entries[path] = _Entry(mode, object_id, int(size))
    return entries


def _contents(git: _Git, object_ids: set[str]) -> dict[str, bytes]:
    """By object, as `git cat-file --batch` gives them: a line with the size, then the content."""
    given = git.run("cat-file", "--batch", given="".join(f"{each}\n" for each in sorted(object_ids)).encode())
    contents, place = dict[str, bytes](), 0
    while place < len(given):
        end = given.index(b"\n", place)
        object_id, _, size = given[place:end].decode("ascii").split()
        place = end + 1 + int(size)
        contents[object_id] = given[end + 1 : place]
        place += 1
    return contents
