"""Walks and searches a directory where ripgrep cannot be used; slower, with the same rules and results.

Hidden files are looked at, `.git` is not. `.gitignore`, `.ignore` and `.rgignore` hold from the workspace's
root down, whether or not it is a repository. Links are never followed. All of it blocks.
"""
# ruff: noqa: PTH123 - a descriptor is opened, not a path

import codecs
import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from pathspec import GitIgnoreSpec

from agent_runner.linear_patterns import RE2_ERROR, LinearPattern
from agent_runner.toolsets.shown_names import shown_name
from stigmer_isolation.beneath import open_beneath

NEVER_SEARCHED: Final = (".git", ".stigmer")
IGNORE_FILES: Final = (".rgignore", ".ignore", ".gitignore")
"""The stronger first: a verdict of one kind outweighs the weaker kinds', however deep they lie."""
MAX_IGNORE_BYTES: Final = 1 << 20
MAX_IGNORE_LINES: Final = 5000
"""Each is compiled by itself; more are not looked at."""
MAX_IGNORE_LINE_CHARACTERS: Final = 1000
MAX_DEPTH: Final = 200
MAX_LINE_BYTES: Final = 1 << 20
"""A longer line is searched in pieces of this size."""
_BINARY_SAMPLE_BYTES: Final = 64 * 1024


class Walked(NamedTuple):
    """A file that a walk came by."""

    path: str
    """Relative to the root."""
    parent: int
    """An open descriptor of a directory, for as long as the walk stays there."""
    name: str
    """Where it is, relative to that."""


class Match(NamedTuple):
    """A line that matches."""

    path: str
    line_number: int
    text: str


class _Rules(NamedTuple):
    """The ignore rules of one directory, by kind of file."""

    directory: str
    specs: tuple[GitIgnoreSpec | None, ...]


class FileWalk:
    """The regular files below a directory, in the order of their paths."""

    def __init__(self, root: int, start: str, *, include_ignored: bool, deadline: float) -> None:
        """`root` is open, `start` relative to it; `deadline` is one of `time.monotonic`."""
        self._root = root
        self._start = start
        self._include_ignored = include_ignored
        self._deadline = deadline
        self.complete = True
        """Whether all files were seen so far: none was too deep, unreadable, or after the deadline."""

    def files(self) -> Iterator[Walked]:
        """The files, each with its directory open until the next one is asked for.

        Raises:
            OSError: the directory to start with cannot be opened.
        """
        rules = [] if self._include_ignored else _rules_above(self._root, self._start)
        try:
            directory = open_beneath(self._root, self._start, os.O_RDONLY | os.O_DIRECTORY)
        except NotADirectoryError:
            yield Walked(self._start, self._root, self._start)
            return
        yield from self._below(directory, self._start, rules, 0)

    def matches(self, file: Walked, pattern: LinearPattern) -> Iterator[Match]:
        """The matching lines of a file of the walk; none where it is binary or cannot be read."""
        try:
            descriptor = open_beneath(file.parent, file.name, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:  # gone meanwhile
            return
        except OSError:
            self.complete = False
            return
        yield from _matches_in(descriptor, file, pattern)

    def _below(self, directory: int, place: str, above: list[_Rules], depth: int) -> Iterator[Walked]:
        """Takes the open `directory` over."""
        try:
            here = above if self._include_ignored else [*above, _rules_of(directory, place)]
            for entry, is_directory in _entries(directory):
                if time.monotonic() > self._deadline:
                    self.complete = False
                    return
                path = entry if place == "." else f"{place}/{entry}"
                if entry in NEVER_SEARCHED or (
                    not self._include_ignored and _is_ignored(path, is_directory, here)
                ):
                    continue
                if not is_directory:
                    yield Walked(path, directory, entry)
                    continue
                try:
                    inner = open_beneath(directory, entry, os.O_RDONLY | os.O_DIRECTORY)
                except OSError:  # unreadable, or another thing by now
                    self.complete = False
                    continue
                if depth == MAX_DEPTH:
                    os.close(inner)
                    self.complete = False
                    continue
                yield from self._below(inner, path, here, depth + 1)
        finally:
            os.close(directory)


def _matches_in(descriptor: int, file: Walked, pattern: LinearPattern) -> Iterator[Match]:
    """None where it is binary. Takes the descriptor over."""
    with open(descriptor, "rb") as content:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        sample = content.read(_BINARY_SAMPLE_BYTES)
        encoding = _wide_encoding(sample)
        if encoding is None and b"\0" in sample:
            return
        number = 1
        for piece in _pieces(content.read, sample, encoding):
            lines = piece.replace(b"\r\n", b"\n").removesuffix(b"\n")
            if pattern.search(lines) is not None:
                for place, line in enumerate(lines.split(b"\n")):
                    if pattern.search(line) is not None:
                        yield Match(file.path, number + place, line.decode("utf-8", errors="replace"))
            number += piece.count(b"\n")


def _entries(directory: int) -> list[tuple[str, bool]]:
    """Regular files and directories by name, and whether it is a directory."""
    found = list[tuple[str, bool]]()
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    found.append((entry.name, True))
                elif entry.is_file(follow_symlinks=False):
                    found.append((entry.name, False))
    return sorted(found, key=lambda each: os.fsencode(each[0]))


def _rules_above(root: int, start: str) -> list[_Rules]:
    """Of the directories above `start`, without what would ignore `start` itself: it was asked for."""
    if start == ".":
        return []
    parts = start.split("/")
    found = list[_Rules]()
    for depth in range(len(parts)):
        place = "/".join(parts[:depth]) or "."
        with contextlib.suppress(OSError):
            directory = open_beneath(root, place, os.O_RDONLY | os.O_DIRECTORY)
            try:
                rules = _rules_of(directory, place)
            finally:
                os.close(directory)
            kept = tuple(
                None
                if spec is not None and spec.check_file(shown_name(_below(place, start)) + "/").include
                else spec
                for spec in rules.specs
            )
            found.append(_Rules(place, kept))
    return found


def _rules_of(directory: int, place: str) -> _Rules:
    return _Rules(place, tuple(_spec_of(directory, name) for name in IGNORE_FILES))


def _spec_of(directory: int, name: str) -> GitIgnoreSpec | None:
    try:
        descriptor = open_beneath(directory, name, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        lines = file.read(MAX_IGNORE_BYTES).decode("utf-8", errors="backslashreplace").splitlines()
    readable = [line for line in lines[:MAX_IGNORE_LINES] if _compile([line]) is not None]
    while readable:
        spec = _compile(readable)
        if spec is not None:
            return spec
        del readable[len(readable) // 2 :]  # of all of them the engine would need too much memory
    return None


def _compile(lines: list[str]) -> GitIgnoreSpec | None:
    """None: they cannot be read; one malformed line must not take the file with it."""
    if any(len(line) > MAX_IGNORE_LINE_CHARACTERS for line in lines):
        return None
    try:
        return GitIgnoreSpec.from_lines(lines)
    except (ValueError, RE2_ERROR):
        return None


def _is_ignored(path: str, is_directory: bool, rules: Sequence[_Rules]) -> bool:
    for kind in range(len(IGNORE_FILES)):
        for each in reversed(rules):
            spec = each.specs[kind]
            if spec is None:
                continue
            name = shown_name(_below(each.directory, path))
            verdict = spec.check_file(f"{name}/" if is_directory else name).include
            if verdict is not None:
                return verdict
    return False


def _below(directory: str, path: str) -> str:
    return path if directory == "." else path[len(directory) + 1 :]


def _wide_encoding(sample: bytes) -> str | None:
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return None


def _pieces(read: Callable[[int], bytes], sample: bytes, encoding: str | None) -> Iterator[bytes]:
    """The content as UTF-8, in pieces that end with a line's end where lines are not too long."""
    decoder = None if encoding is None else codecs.getincrementaldecoder(encoding)(errors="replace")
    rest, chunk = b"", sample.removeprefix(codecs.BOM_UTF8)
    while chunk:
        text = chunk if decoder is None else decoder.decode(chunk).encode()
        rest += text
        cut = rest.rfind(b"\n") + 1 or (len(rest) if len(rest) > MAX_LINE_BYTES else 0)
        if cut:
            yield rest[:cut]
            rest = rest[cut:]
        chunk = read(_BINARY_SAMPLE_BYTES)
    if rest:
        yield rest
