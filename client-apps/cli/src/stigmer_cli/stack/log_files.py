"""Log files of the stack: written line by line with a time, bounded in size, read merged in time order.

A line is `2026-11-22T11:03:14.344512Z text`; the time is UTC and of fixed width, so it sorts as text.
"""

import contextlib
import heapq
import os
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from stigmer_contract.untrusted_text import escape_controls

MAX_FILE_BYTES = 5_000_000
KEPT_FILES = 3
"""Full files kept beside the one that is written: `server.log.1` is the newest of them."""
MAX_LINE_BYTES = 16_384

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ")


@dataclass(frozen=True)
class LogLine:
    """One line of one component."""

    time: str
    """As in the file."""
    component: str
    text: str


class RotatingLog:
    """Writes one component's log; a full file moves aside. A full disk costs lines, never more."""

    def __init__(self, path: Path, max_file_bytes: int = MAX_FILE_BYTES, kept_lines: int = 10) -> None:
        self._path = path
        self._max_file_bytes = max_file_bytes
        self._lock = threading.Lock()
        self._last_lines: deque[str] = deque(maxlen=kept_lines)

    def beside(self) -> "RotatingLog":
        """Another one for the same file, with last lines of its own."""
        other = RotatingLog(self._path, self._max_file_bytes, self._last_lines.maxlen or 0)
        other._lock = self._lock
        return other

    @property
    def last_lines(self) -> tuple[str, ...]:
        """What was written last, oldest first, without times."""
        return tuple(self._last_lines)

    def write_line(self, text: str) -> None:
        """Appends one line with the time of now; what would steer a terminal is spelled out."""
        text = escape_controls(text)
        self._last_lines.append(text)
        line = f"{_now()} {text}\n".encode(errors="replace")
        with self._lock, contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                size_bytes = os.fstat(descriptor).st_size
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
            if size_bytes + len(line) >= self._max_file_bytes:
                self._rotate()

    def forget_last_lines(self) -> None:
        """So that `last_lines` speaks of one life of the component only."""
        self._last_lines.clear()

    def _rotate(self) -> None:
        for number in range(KEPT_FILES, 0, -1):
            older = self._path if number == 1 else _rotated(self._path, number - 1)
            if older.exists():
                older.replace(_rotated(self._path, number))


class LineSplitter:
    """Cuts a stream of bytes into lines; one that is too long is cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[str]:
        """The lines that the chunk completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        return [_decode(line) for line in lines]

    def finish(self) -> list[str]:
        """What is left when the stream ends without a line end."""
        rest, self._rest = self._rest, b""
        return [_decode(rest)] if rest else []


class LogReader:
    """Reads some components' logs: first what is kept, then what is appended, also past a rotation."""

    def __init__(self, directory: Path, components: Sequence[str]) -> None:
        self._tails = [_Tail(directory / f"{component}.log", component) for component in components]

    def kept_lines(self, since: datetime | None = None) -> Iterator[LogLine]:
        """The lines that are there, in time order; to be read to the end, and once."""
        bound = "" if since is None else _format(since)
        merged = heapq.merge(*(tail.kept_lines() for tail in self._tails), key=_time_of)
        return (line for line in merged if line.time >= bound)

    def new_lines(self) -> list[LogLine]:
        """The lines since the last reading, in time order; does not wait."""
        return sorted((line for tail in self._tails for line in tail.new_lines()), key=_time_of)


class _Tail:
    """One component's log, and how far it has been read."""

    def __init__(self, path: Path, component: str) -> None:
        self._path = path
        self._component = component
        self._time = ""
        self._splitter = LineSplitter()
        self._inode, self._offset = _inode(path), 0

    def kept_lines(self) -> Iterator[LogLine]:
        for number in range(KEPT_FILES, 0, -1):
            full = _rotated(self._path, number)
            if _inode(full) == self._inode:
                continue  # it has moved aside since; `new_lines` reads it
            with (
                contextlib.suppress(FileNotFoundError),
                full.open(encoding="utf-8", errors="replace") as file,
            ):
                for text in file:
                    yield self._parse(text.rstrip("\n"))
        yield from self.new_lines()

    def new_lines(self) -> list[LogLine]:
        lines: list[LogLine] = []
        with contextlib.suppress(FileNotFoundError):
            if self._inode and _inode(self._path) != self._inode:
                rotated = _rotated(self._path, 1)
                if _inode(rotated) == self._inode:
                    lines += self._read_on(rotated)
                self._offset = 0
            self._inode = _inode(self._path)
            lines += self._read_on(self._path)
        return lines

    def _read_on(self, path: Path) -> list[LogLine]:
        with path.open("rb") as file:
            file.seek(self._offset)
            chunk = file.read()
        self._offset += len(chunk)
        return [self._parse(text) for text in self._splitter.feed(chunk)]

    def _parse(self, text: str) -> LogLine:
        # A line without a time (a traceback that the interpreter wrote itself) belongs to the one before it.
        match = _TIME.match(text)
        if match:
            self._time = match.group().rstrip()
            text = text[match.end() :]
        return LogLine(self._time, self._component, text)


def _inode(path: Path) -> int:
    """0 where there is no file."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _time_of(line: LogLine) -> str:
    return line.time


def _rotated(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _decode(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r")


def _now() -> str:
    return _format(datetime.now(UTC))


def _format(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
