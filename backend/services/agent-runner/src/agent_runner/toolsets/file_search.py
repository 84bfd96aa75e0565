"""Finds files by name and by content: with ripgrep, held in like any command, else by a walk of our own.

Both have one language of patterns, one rule of what is looked at, and the same results.
"""

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from pydantic_ai.workspaces import WorkspaceTimeoutError

from agent_runner.linear_patterns import InvalidPattern, compile_pattern
from agent_runner.toolsets.file_walk import IGNORE_FILES, FileWalk, Match
from agent_runner.toolsets.globs import compile_glob, last_component
from agent_runner.toolsets.shown_names import shown_name
from agent_runner.workspace import SessionWorkspace, find_ripgrep
from stigmer_isolation.beneath import open_beneath

SEARCH_SECONDS: Final = 20.0
MAX_RESULTS: Final = 1000
MAX_RESULT_CHARACTERS: Final = 45_000
"""Most text of one result; with notes it stays below what a call may add to the conversation."""
MAX_SHOWN_LINE: Final = 400
"""Bytes of a matching line that are shown."""
MAX_PROGRAM_OUTPUT_BYTES: Final = 8 << 20
"""What is read of ripgrep's output; the names of some 100,000 files."""

_CUT_BY_RIPGREP: Final = re.compile(r" \[\.\.\. (?:omitted end of long line|\d+ more match(?:es)?)\]$")
_LINE_CUT: Final = " [... line cut]"
_COMMON_ARGUMENTS: Final = (
    "--no-config", "--color=never", "--null", "--hidden", "--glob=!.git", "--glob=!.stigmer",
    "--no-require-git", "--no-ignore-global", "--no-ignore-exclude", "--no-ignore-messages",
    "--no-messages", "--sort=path",
)  # fmt: skip
MAX_PROGRAM_KILOBYTES: Final = 1 << 20
"""Memory of ripgrep: it keeps the whole of a line, be it one of an ignore file, which nothing bounds."""
# The status goes to stderr: that of a pipe is its last command's. Nothing of a pattern is shell text.
# Beside it, ignore files are looked for that would hold it up: a FIFO, a device, one that is very large.
_SCRIPT: Final = f"""
exec 3>&2 2>/dev/null
ulimit -d {MAX_PROGRAM_KILOBYTES}
{{
    "$@" 2>&3 & searching=$!
    find "$STIGMER_START" '(' -name .gitignore -o -name .ignore -o -name .rgignore ')' \\
        '(' -type l ! -exec test -f '{{}}' ';' -o ! -type l ! -type f -o -size +2048 ')' \\
        -exec sh -c 'kill -9 "$0"' "$searching" ';' -quit >/dev/null & looking=$!
    wait "$searching"
    echo "status $?" >&3
    kill -9 "$looking"
}} | head -c "$0"
"""
_KILLED: Final = ("134", "137")
"""By itself for lack of memory, or because of such a file."""
_STATUS: Final = re.compile(r"status (\d+)\n$")


class InvalidSearch(ValueError):
    """The search cannot be made; the message says what would be right."""


@dataclass(frozen=True)
class Found:
    """What a search found."""

    lines: list[str]
    """Paths, or `path:line:text`."""
    is_cut: bool
    """Whether there is more than that."""
    is_partial: bool
    """Whether something could not be looked at, for lack of time or of permission."""


async def find_files(
    workspace: SessionWorkspace, pattern: str, start: str, *, include_ignored: bool
) -> Found:
    """Files below `start`, relative to the workspace, whose path below it matches the glob.

    Raises:
        InvalidGlob: the glob is malformed.
    """
    matches = compile_glob(await _from_root(workspace, pattern))
    prefix = "" if start == "." else f"{start}/"

    def wanted(path: str) -> str | None:
        shown = shown_name(path)
        return shown if matches(shown.removeprefix(shown_name(prefix))) else None

    def walk(walk: FileWalk) -> Iterator[str]:
        return filter(None, (wanted(file.path) for file in walk.files()))

    ran = await _run_ripgrep(workspace, ["--files"], start, include_ignored)
    if ran is None:
        return await _walk(workspace, start, include_ignored, walk)
    output, partial = ran
    names = (_relative(name) for name in output.split("\0") if name)
    return collect(filter(None, map(wanted, names)), partial)


async def search_files(
    workspace: SessionWorkspace,
    pattern: str,
    start: str,
    *,
    include_glob: str | None,
    include_ignored: bool,
) -> Found:
    """Lines that match a regular expression, in the files at or below `start`.

    Raises:
        InvalidGlob: the glob is malformed.
        InvalidSearch: the pattern is.
    """
    matches = None if include_glob is None else compile_glob(await _from_root(workspace, include_glob))
    prefix = "" if start == "." else f"{start}/"

    def is_wanted(path: str) -> bool:
        shown = shown_name(path)
        return matches is None or matches(shown) or matches(shown.removeprefix(shown_name(prefix)))

    arguments = [
        "--line-number", "--with-filename", "--no-heading", "--crlf",
        f"--max-columns={MAX_SHOWN_LINE}", "--max-columns-preview",
    ]  # fmt: skip
    name = None if include_glob is None else last_component(include_glob)
    if name is not None:
        # A type and not `--glob`, which would outweigh ignore files.
        arguments += [f"--type-add=wanted:{name}", "--type=wanted"]
    arguments.append(f"--regexp={pattern}")
    ran = await _run_ripgrep(workspace, arguments, start, include_ignored)
    if ran is not None:
        output, partial = ran
        records = _records(output)
        return collect((_line(*record) for record in records if is_wanted(record[0])), partial)

    try:
        compiled = compile_pattern(f"(?m){pattern}")
    except InvalidPattern as error:
        raise InvalidSearch(_explained(str(error))) from error

    def walk(walk: FileWalk) -> Iterator[str]:
        for file in walk.files():
            if is_wanted(file.path):
                for match in walk.matches(file, compiled):
                    yield _line(*_shortened(match))

    return await _walk(workspace, start, include_ignored, walk)


async def _from_root(workspace: SessionWorkspace, glob: str) -> str:
    """The glob, anchored at the workspace where it names that by its whole path."""
    root = await workspace.working_dir()
    return f"/{glob.removeprefix(f'{root}/')}" if glob.startswith(f"{root}/") else glob


def _usable_ripgrep(workspace: SessionWorkspace) -> str | None:
    """Only where it is held in: else it would read ignore files outside of the workspace."""
    return find_ripgrep() if workspace.holds_files_in else None


async def _run_ripgrep(
    workspace: SessionWorkspace, arguments: list[str], start: str, include_ignored: bool
) -> tuple[str, bool] | None:
    """What it printed, and whether that is only a part; None where it cannot be used for this."""
    ripgrep = _usable_ripgrep(workspace)
    if ripgrep is None or not await workspace.in_thread(lambda: _is_plain(workspace, start)):
        return None
    ignoring = ["--no-ignore"] if include_ignored else []
    called = [ripgrep, *_COMMON_ARGUMENTS, *ignoring, *arguments, "--", start]
    script = ["/bin/sh", "-c", _SCRIPT, str(MAX_PROGRAM_OUTPUT_BYTES), *called]
    try:
        result = await workspace.run(
            # Without the `./`, `find` would take a directory called `-delete` for an order.
            script,
            env={"STIGMER_START": f"./{start}"},
            timeout=SEARCH_SECONDS,
            undecodable="surrogateescape",
        )
    except WorkspaceTimeoutError as error:
        return error.stdout, True
    status = _STATUS.search(result.stderr)
    if status is not None and status[1] in _KILLED:
        return None
    complaint = _STATUS.sub("", result.stderr).strip()
    if status is not None and status[1] not in ("0", "1") and complaint:
        raise InvalidSearch(_explained(_valid(complaint)))
    # Without a complaint, which is switched off for files, that status means that some could not be read.
    unreadable = status is not None and status[1] == "2"
    return result.stdout, unreadable or len(result.stdout) >= MAX_PROGRAM_OUTPUT_BYTES


def _is_plain(workspace: SessionWorkspace, start: str) -> bool:
    """Whether neither what is searched nor an ignore file above it would hold ripgrep up."""
    root = workspace.open_directory()
    try:
        if not _has_kind(root, start, stat.S_ISREG, stat.S_ISDIR):
            return False
        above = [str(place) for place in PurePosixPath(start).parents] if start != "." else []
        return all(
            _has_kind(root, f"{place}/{name}", stat.S_ISREG) for place in above for name in IGNORE_FILES
        )
    finally:
        os.close(root)


def _has_kind(root: int, path: str, *kinds: Callable[[int], bool]) -> bool:
    """Whether what is at the path beneath the root, where anything is, is of one of these kinds."""
    try:
        found = open_beneath(root, path, os.O_PATH)
    except FileNotFoundError:
        return True
    except OSError:  # a link
        return False
    try:
        status = os.fstat(found)
        return any(kind(status.st_mode) for kind in kinds)
    finally:
        os.close(found)


def _records(output: str) -> Iterator[tuple[str, int, str]]:
    """Path, number and text of each line that ripgrep printed; the last may have been cut off."""
    place = 0
    # A path may hold line ends, too; what follows it does not.
    while (null := output.find("\0", place)) != -1:
        path, end = output[place:null], output.find("\n", null)
        number, colon, text = output[null + 1 : end if end != -1 else len(output)].partition(":")
        if colon and number.isdigit():
            cut = _CUT_BY_RIPGREP.sub(_LINE_CUT, _valid(text).removesuffix("\r"))
            yield _relative(path), int(number), cut
        if end == -1:
            return
        place = end + 1


def _valid(text: str) -> str:
    return text if text.isascii() else os.fsencode(text).decode("utf-8", errors="replace")


def _relative(path: str) -> str:
    return path.removeprefix("./")


def _shortened(match: Match) -> Match:
    encoded = match.text.encode()
    if len(encoded) <= MAX_SHOWN_LINE:
        return match
    return match._replace(text=encoded[:MAX_SHOWN_LINE].decode("utf-8", errors="ignore") + _LINE_CUT)


def _line(path: str, number: int, text: str) -> str:
    return f"{shown_name(path)}:{number}:{text}"


def collect(lines: Iterator[str], partial: bool) -> Found:
    """As many of the lines as one result may hold; `partial`: whether there may be others besides."""
    kept, characters = list[str](), 0
    for line in lines:
        characters += len(line) + 1
        if len(kept) == MAX_RESULTS or characters > MAX_RESULT_CHARACTERS:
            return Found(kept, is_cut=True, is_partial=partial)
        kept.append(line)
    return Found(kept, is_cut=False, is_partial=partial)


async def _walk(
    workspace: SessionWorkspace,
    start: str,
    include_ignored: bool,
    lines: Callable[[FileWalk], Iterator[str]],
) -> Found:
    def work() -> Found:
        root = workspace.open_directory()
        try:
            walk = FileWalk(
                root, start, include_ignored=include_ignored, deadline=time.monotonic() + SEARCH_SECONDS
            )
            found = collect(lines(walk), partial=False)
            return Found(found.lines, found.is_cut, is_partial=not walk.complete)
        finally:
            os.close(root)

    return await workspace.in_thread(work)


def _explained(complaint: str) -> str:
    """Of ripgrep's or RE2's words those that say what is wrong, and what would be right."""
    lines = [line.strip() for line in complaint.removeprefix("rg: ").splitlines() if line.strip()]
    reason = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])
    return (
        f"the pattern cannot be used: {reason}. Patterns are ripgrep's regular expressions, which run in "
        "linear time: without look-around, without back-references; put a backslash before a character to "
        "take it literally"
    )
