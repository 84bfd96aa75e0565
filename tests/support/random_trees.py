"""Workspaces of every odd kind, changed at random, and what tells whether two of them are the same."""

import hashlib
import os
import random
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

NAMES = (
    b"a",
    b"A",
    b"report.txt",
    b"Report.txt",
    b"with space",
    b"new\nline",
    b"back\\slash",
    b"-rf",
    b"*",
    "schön.md".encode(),
    b"latin-\xe9\xff",
    b"\xf0\x9f\x8d\x8e.txt",
    b".hidden",
    b"x" * 200,
)
State = dict[bytes, tuple[object, ...]]


def state_of(root: Path) -> State:
    """What is at each path, times included; the workspace itself is the empty path."""
    top = os.fsencode(root)
    found: State = {b"": _look(top)}
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118 - paths in bytes
            found[os.path.relpath(path, top)] = _look(path)
    return found


def _look(path: bytes) -> tuple[object, ...]:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return ("link", os.readlink(path), status.st_mtime_ns)  # noqa: PTH115 - as above
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        return ("directory", mode, status.st_mtime_ns)
    with open(path, "rb") as file:  # noqa: PTH123 - as above
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ("file", mode, status.st_mtime_ns, status.st_size, digest)


def _open(path: bytes, flags: int) -> BinaryIO:
    """To write, and never through a link: it may lead out of the workspace, to what is another's (ELOOP)."""
    return os.fdopen(os.open(path, flags | os.O_RDWR | os.O_NOFOLLOW, 0o666), "r+b")


class RandomTree:
    """A workspace, and a hand that changes it. The same seed does the same."""

    def __init__(self, root: Path, seed: int) -> None:
        """`root` is an empty directory."""
        self._root = os.fsencode(root)
        self._random = random.Random(seed)

    def change(self, times: int) -> None:
        """Do so many things to it."""
        hands: list[Callable[[], None]] = [
            *[self._write] * 5,
            *[self._rewrite_in_place] * 3,
            self._append,
            self._truncate,
            self._change_mode,
            self._change_time,
            self._rename,
            self._remove,
            self._make_folder,
            self._make_folder,
            self._link,
            self._hard_link,
            self._swap_kind,
            self._change_case,
            self._write_large,
        ]
        for _ in range(times):
            try:
                self._random.choice(hands)()
            except (FileExistsError, IsADirectoryError, NotADirectoryError, FileNotFoundError):
                continue  # what it would have been is something else already
            except OSError as error:
                if error.errno not in (22, 26, 36, 39, 40):  # into itself, too long, not empty, a loop
                    raise

    # --- choosing -----------------------------------------------------------------------------

    def _paths(self, kind: str) -> list[bytes]:
        found: list[bytes] = []
        for folder, folders, files in os.walk(self._root):
            for name in (*folders, *files):
                path = os.path.join(folder, name)  # noqa: PTH118
                if kind == "any" or _look(path)[0] == kind:
                    found.append(path)
        return sorted(found)

    def _one(self, kind: str) -> bytes:
        paths = self._paths(kind)
        if not paths:
            raise FileNotFoundError
        return self._random.choice(paths)

    def _folder(self) -> bytes:
        return self._random.choice([self._root, *self._paths("directory")])

    def _new(self) -> bytes:
        return os.path.join(self._folder(), self._random.choice(NAMES))  # noqa: PTH118

    def _content(self) -> bytes:
        size = self._random.choice((0, 1, 100, 4096, 20_000))
        if self._random.random() < 0.5:
            return self._random.randbytes(size)
        return (b"the same line again\n" * (1 + size // 20))[:size]

    # --- doing --------------------------------------------------------------------------------

    def _write(self) -> None:
        with _open(self._new(), os.O_CREAT | os.O_TRUNC) as file:
            file.write(self._content())

    def _write_large(self) -> None:
        if self._random.random() < 0.7:
            return
        with _open(self._new(), os.O_CREAT | os.O_TRUNC) as file:
            file.seek(self._random.choice((0, 1 << 20, 3 << 20)))
            file.write(self._random.randbytes(self._random.choice((1, 1 << 20, (1 << 20) + 7))))
            file.truncate(file.tell() + self._random.choice((0, 1 << 21)))

    def _rewrite_in_place(self) -> None:
        """Other bytes, as many, and the time as it was."""
        path = self._one("file")
        status = os.stat(path)  # noqa: PTH116
        with _open(path, 0) as file:
            file.write(self._random.randbytes(min(status.st_size, 1000)))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _append(self) -> None:
        with _open(self._one("file"), 0) as file:
            file.seek(0, os.SEEK_END)
            file.write(self._content())

    def _truncate(self) -> None:
        path = self._one("file")
        os.truncate(path, os.stat(path).st_size // 2)  # noqa: PTH116

    def _change_mode(self) -> None:
        path = self._one(self._random.choice(("file", "directory")))
        os.chmod(path, self._random.choice((0o700, 0o755, 0o750, 0o777)))  # noqa: PTH101

    def _change_time(self) -> None:
        moment = self._random.choice((0, 1, 123_456_789, 1_900_000_000_123_456_789))
        os.utime(self._one("file"), ns=(moment, moment))

    def _rename(self) -> None:
        os.rename(self._one("any"), self._new())  # noqa: PTH104

    def _remove(self) -> None:
        path = self._one("any")
        if _look(path)[0] == "directory":
            shutil.rmtree(path)
        else:
            os.unlink(path)  # noqa: PTH108

    def _make_folder(self) -> None:
        os.mkdir(self._new())  # noqa: PTH102

    def _link(self) -> None:
        targets = (b".", b"..", b"nowhere", b"/usr", b"a", b"latin-\xe9\xff", b"a/" * 50)
        os.symlink(self._random.choice(targets), self._new())  # noqa: PTH211

    def _hard_link(self) -> None:
        os.link(self._one("file"), self._new())

    def _swap_kind(self) -> None:
        path = self._one("any")
        if _look(path)[0] == "directory":
            shutil.rmtree(path)
            os.symlink(b"swapped", path)  # noqa: PTH211
        else:
            os.unlink(path)  # noqa: PTH108
            os.mkdir(path)  # noqa: PTH102

    def _change_case(self) -> None:
        path = self._one("any")
        folder, name = os.path.split(path)
        os.rename(path, os.path.join(folder, name.swapcase()))  # noqa: PTH104, PTH118
