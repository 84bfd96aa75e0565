"""The toolset `files`: reads, changes, lists and searches the session's workspace.

What a path means and how it is opened is the workspace's matter, what is found where `file_search`'s. A call
that cannot be done is a failed call, in words that a model can act on; only a workspace that is gone ends
the execution.
"""
# ruff: noqa: PTH118, PTH120 - paths here are text as the workspace has them, not pathlib's

import contextlib
import functools
import os
from collections.abc import Callable, Generator, Sequence
from typing import Final, TypeVar, cast

from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import BinaryContent
from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import FunctionToolset

from agent_runner.toolsets import file_content
from agent_runner.toolsets.file_search import (
    MAX_RESULT_CHARACTERS,
    Found,
    InvalidSearch,
    collect,
)
from agent_runner.toolsets.file_search import find_files as find_in_workspace
from agent_runner.toolsets.file_search import search_files as search_in_workspace
from agent_runner.toolsets.globs import InvalidGlob
from agent_runner.toolsets.shown_names import meant_name, shown_name
from agent_runner.toolsets.text_edits import EditRefused, Replacement, apply_replacements
from agent_runner.workspace import (
    DirectoryEntry,
    EntryKind,
    FileOperationFailed,
    IsolatedFiles,
    SessionWorkspace,
)
from stigmer_contract.workspace_rules import is_git_name

READING_TOOLS: Final = frozenset({"read_file", "list_directory", "search_files", "find_files", "file_info"})
"""Those that change nothing, and so may run again."""
MAX_SHOWN_PATH: Final = 4096

_T = TypeVar("_T")
_SHOWN_KINDS: Final = {
    EntryKind.OUTSIDE: "leads outside the workspace",
    EntryKind.NOWHERE: "leads nowhere",
    EntryKind.LOOP: "a loop of links",
    EntryKind.SPECIAL: "neither a file nor a directory",
}


@functools.cache
def files_toolset() -> FunctionToolset[None]:
    """The toolset; it keeps nothing of a run, so that all runs share it."""
    tools = (
        read_file, write_file, edit_file, list_directory, search_files, find_files, create_directory,
        file_info,
    )  # fmt: skip
    return FunctionToolset[None](list(tools), id="files", docstring_format="google")


async def read_file(
    ctx: RunContext[None], path: str, *, offset: int = 0, limit: int | None = None
) -> str | list[str | BinaryContent]:
    """Read a text file with line numbers, or view an image or PDF.

    Args:
        ctx: The current agent run context.
        path: File path relative to the working directory.
        offset: Zero-based line offset to start reading from.
        limit: Maximum number of lines to return; default and maximum: 2000.

    Returns:
        File content with line numbers, plus metadata header. An image or PDF is returned as the file itself;
        other binary files as their size, media type and leading bytes in hex.
    """
    if offset < 0 or (limit is not None and limit < 1):
        raise ToolFailed("offset must not be negative, and limit at least 1")
    lines = file_content.MAX_LINES if limit is None else min(limit, file_content.MAX_LINES)
    header_room = len(path) + file_content.HASH_CHARACTERS + 100
    room = MAX_RESULT_CHARACTERS - header_room

    def read(files: IsolatedFiles, place: str) -> str | list[str | BinaryContent]:
        with files.opened(place) as file:
            content = file_content.read_window(file, path, offset=offset, limit=lines, max_characters=room)
        match content:
            case file_content.TextWindow():
                header = f"[{path} | {content.total_lines} lines | hash:{content.digest}]\n"
                return header + file_content.numbered_lines(content, offset=offset, max_characters=room)
            case file_content.Media():
                header = (
                    f"[{path} | {content.media_type} | {len(content.data)} bytes | hash:{content.digest}]\n"
                )
                return [header, BinaryContent(data=content.data, media_type=content.media_type)]
            case file_content.Binary():
                header = (
                    f"[{path} | {content.media_type} | {content.size_bytes} bytes | hash:{content.digest}]\n"
                )
                return f"{header}Binary file; the first bytes in hex:\n{file_content.hex_preview(content)}"
            case file_content.TooLarge():
                raise ToolFailed(_too_large(path))

    return await _on_file(ctx, path, read)


async def write_file(
    ctx: RunContext[None], path: str, content: str, *, expected_hash: str | None = None
) -> str:
    """Create or overwrite a file, and the directories it lies in.

    Args:
        ctx: The current agent run context.
        path: File path relative to the working directory.
        content: The text content to write.
        expected_hash: If provided, the write is rejected when the file exists and its current hash doesn't
            match (optimistic concurrency).

    Returns:
        Confirmation message with new hash.
    """
    data = _encoded(content)

    def write(files: IsolatedFiles, place: str) -> str:
        with files.held():
            if expected_hash is not None:
                with contextlib.suppress(FileNotFoundError), files.opened(place) as file:
                    _check_hash(path, file_content.digest_of(file), expected_hash)
            files.write_bytes(place, data)
        lines = content.count("\n") + (not content.endswith("\n") and content != "")
        digest = file_content.content_digest(data)
        return f"Wrote {len(content)} chars ({lines} lines) to {path}. [hash:{digest}]"

    return await _on_file(ctx, path, write, writes=True)


async def edit_file(
    ctx: RunContext[None],
    path: str,
    old_text: str | None = None,
    new_text: str | None = None,
    *,
    replacements: list[Replacement] | None = None,
    expected_hash: str | None = None,
) -> str:
    """Edit a file by exact string replacement with conflict detection.

    Pass one `old_text`/`new_text` pair, or several as `replacements`. Each old_text must appear exactly once
    in the file as edited by the previous replacements; include surrounding context lines to ensure
    uniqueness. Line ends match whatever line ends the file has. The file is only written once every
    replacement has matched.

    Args:
        ctx: The current agent run context.
        path: File path relative to the working directory.
        old_text: The exact text to find (must appear exactly once).
        new_text: The replacement text.
        replacements: Replacements to apply in order, instead of a single pair.
        expected_hash: If provided, rejects the edit when the file's current hash doesn't match (optimistic
            concurrency).

    Returns:
        Summary with new hash for subsequent operations.
    """
    edits = _edits(old_text, new_text, replacements)

    def edit(files: IsolatedFiles, place: str) -> str:
        with files.held():
            data = files.read_bytes(place, max_bytes=file_content.MAX_EDIT_BYTES)
            if data is None:
                raise ToolFailed(
                    f"{path} is too large to edit: the limit is {file_content.MAX_EDIT_BYTES} bytes. Use a "
                    "command such as sed"
                )
            try:
                # Bytes that are not of the encoding go through as they are.
                text, encoding, errors = file_content.text_of(data)
            except ValueError as error:
                raise ToolFailed(f"{path} is a binary file; edit_file only edits text files.") from error
            if expected_hash is not None:
                _check_hash(path, file_content.content_digest(data), expected_hash)
            try:
                edited = apply_replacements(text, edits, path)
            except EditRefused as refusal:
                raise ToolFailed(str(refusal)) from refusal
            new_data = edited.encode(encoding, errors)
            files.write_bytes(place, new_data)
        return f"Edited {path}. [hash:{file_content.content_digest(new_data)}]"

    return await _on_file(ctx, path, edit, writes=True)


async def list_directory(ctx: RunContext[None], path: str = ".") -> str:
    """List the contents of a directory, hidden ones too.

    Args:
        ctx: The current agent run context.
        path: Directory path relative to the working directory.

    Returns:
        Paths relative to the working directory, with type indicators and sizes; of links where they lead.
    """

    def list_entries(files: IsolatedFiles, place: str) -> str:
        entries, complete = files.scan(place)
        relative = os.path.relpath(place, files.root)
        lines = [_entry_line(entry, "" if relative == "." else f"{relative}/") for entry in entries]
        if not lines:
            return "(empty directory)"
        found = collect(iter(lines), partial=not complete)
        if found.is_cut or found.is_partial:
            return "\n".join([*found.lines, f"[... truncated at {len(found.lines)} entries]"])
        return "\n".join(found.lines)

    return await _on_file(ctx, path, list_entries)


async def search_files(
    ctx: RunContext[None],
    pattern: str,
    path: str = ".",
    include_glob: str | None = None,
    *,
    include_ignored: bool = False,
) -> str:
    """Search file contents using a regular expression (ripgrep's: no look-around, no back-references).

    Hidden files are searched, `.git` is not, nor is what ignore files of the workspace name.

    Args:
        ctx: The current agent run context.
        pattern: Regex pattern to search for.
        path: Directory or file to search in, relative to the working directory.
        include_glob: If provided, only search files that match it: '*.py' by their name,
            'src/**/*.{js,ts}' by their path.
        include_ignored: Whether to search what ignore files such as .gitignore leave out, too.

    Returns:
        str: Matching lines formatted as file:line_number:text, with paths relative to the working directory.
    """
    workspace, start = await _start_of(ctx, path)
    with _search_explained():
        found = await search_in_workspace(
            workspace, pattern, start, include_glob=include_glob, include_ignored=include_ignored
        )
    return _found_text(found, "matches")


async def find_files(
    ctx: RunContext[None], pattern: str, path: str = ".", *, include_ignored: bool = False
) -> str:
    """Find files by glob pattern (name matching, not content search).

    Hidden files are found, those in `.git` are not, nor is what ignore files of the workspace name.

    Args:
        ctx: The current agent run context.
        pattern: Glob pattern: '*.py' for the name anywhere below `path`, 'src/**/*.{js,ts}' for the path
            below it; `*` stops at `/`, `**` does not.
        path: Directory to search in, relative to the working directory.
        include_ignored: Whether to find what ignore files such as .gitignore leave out, too.

    Returns:
        Newline-separated list of matching file paths relative to the working directory.
    """
    workspace, start = await _start_of(ctx, path)
    with _search_explained():
        found = await find_in_workspace(workspace, pattern, start, include_ignored=include_ignored)
    return _found_text(found, "files")


async def create_directory(ctx: RunContext[None], path: str) -> str:
    """Create a directory and any missing parents.

    Args:
        ctx: The current agent run context.
        path: Directory path relative to the working directory.

    Returns:
        Confirmation message.
    """

    def create(files: IsolatedFiles, place: str) -> str:
        files.make_dir(place)
        return f"Created directory: {path}"

    return await _on_file(ctx, path, create, writes=True)


async def file_info(ctx: RunContext[None], path: str) -> str:
    """Get metadata about a file or directory.

    Args:
        ctx: The current agent run context.
        path: File or directory path relative to the working directory.

    Returns:
        The path, its type and size, whether a file is binary, a text file's line count and content hash, and
        where a link leads.
    """

    def describe(files: IsolatedFiles, place: str) -> str:
        entry = files.stat(place)
        parts = [f"path: {path}", f"type: {'directory' if entry.is_dir else 'file'}"]
        if entry.size is not None:
            parts.append(f"size: {entry.size} bytes")
            with files.opened(place) as file:
                content = file_content.read_window(file, path, offset=0, limit=1, max_characters=1)
            match content:
                case file_content.TextWindow():
                    parts += ["binary: False", f"lines: {content.total_lines}", f"hash: {content.digest}"]
                case file_content.TooLarge():
                    parts.append(f"contents: not read (over {file_content.MAX_READ_BYTES} bytes)")
                case file_content.Binary() | file_content.Media():
                    parts.append("binary: True")
        target = files.link_target(place)
        if target is not None:
            parts.append(f"symlink_target: {shown_name(target)}")
        return "\n".join(parts)

    return await _on_file(ctx, path, describe)


# --- paths and errors -------------------------------------------------------------------------


async def _on_file(
    ctx: RunContext[None], path: str, operation: Callable[[IsolatedFiles, str], _T], *, writes: bool = False
) -> _T:
    """Do something with the place that the model calls `path`, and say in its words what went wrong."""
    workspace = workspace_of(ctx)
    with _explained(path):
        root = await workspace.working_dir()
        place = _place(root, path)

        def there(files: IsolatedFiles) -> _T:
            meant = meant_name(place)
            if meant is None or files.exists(place):
                meant = place
            if writes:
                _refuse_git(files, path, meant)
            return operation(files, meant)

        return await workspace.soon(there)


def _refuse_git(files: IsolatedFiles, path: str, place: str) -> None:
    """A hook planted there runs when the directory's owner next uses git."""
    for reached in (place, files.realpath(os.path.dirname(place)), files.realpath(place)):
        if any(is_git_name(name) for name in reached.removeprefix(files.root).split("/")):
            raise ToolFailed(
                f"{path} lies in .git, which the file tools do not write; use git's own commands"
            )
    if files.is_in_git_directory(place):
        raise ToolFailed(
            f"{path} lies in a git directory or would complete one, which the file tools do not write; use "
            "git's own commands"
        )


def workspace_of(ctx: RunContext[None]) -> SessionWorkspace:
    """The session's workspace, which a run works in."""
    return cast("SessionWorkspace", ctx.workspace.backend)


def _place(root: str, path: str) -> str:
    """The absolute path meant; `..` is taken out as text, as in a URL."""
    if "\0" in path:
        raise ToolFailed("the path holds a null byte")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise ToolFailed("the path is not valid text") from error
    place = os.path.normpath(os.path.join(root, path))
    if place != root and not place.startswith(f"{root}/"):
        raise ToolFailed(
            f"{path[:MAX_SHOWN_PATH]!r} is outside the workspace {root!r}; the file tools only work inside it"
        )
    return place


async def _start_of(ctx: RunContext[None], path: str) -> tuple[SessionWorkspace, str]:
    """The workspace, and where a search in `path` begins, relative to it and without links."""

    def resolve(files: IsolatedFiles, place: str) -> str:
        real = files.realpath(place)
        if real != files.root and not real.startswith(f"{files.root}/"):
            raise ToolFailed(f"{path!r} leads outside the workspace through a link")
        files.stat(real)
        return os.path.relpath(real, files.root)

    return workspace_of(ctx), await _on_file(ctx, path, resolve)


@contextlib.contextmanager
def _explained(path: str) -> Generator[None]:
    """The one table of what can go wrong with a path, and what a model is told of it."""
    shown = path if len(path) <= MAX_SHOWN_PATH else path[:MAX_SHOWN_PATH] + "…"
    try:
        yield
    except ToolFailed:
        raise
    except FileOperationFailed as error:
        raise ToolFailed(str(error)) from error
    except FileNotFoundError as error:
        raise ToolFailed(f"Path not found: {shown}") from error
    except IsADirectoryError as error:
        raise ToolFailed(f"{shown} is a directory; list_directory shows what is in it") from error
    except NotADirectoryError as error:
        raise ToolFailed(f"Not a directory: {shown}, or something on the way to it") from error
    except PermissionError as error:
        reason = error.strerror or str(error)
        raise ToolFailed(f"{shown}: {reason}" if shown not in reason else reason) from error
    except OSError as error:
        raise ToolFailed(f"{shown}: {error.strerror or error}") from error
    except ValueError as error:
        raise ToolFailed(f"{shown}: {error}") from error


@contextlib.contextmanager
def _search_explained() -> Generator[None]:
    try:
        yield
    except (InvalidGlob, InvalidSearch) as error:
        raise ToolFailed(str(error)) from error


def _encoded(content: str) -> bytes:
    try:
        return content.encode()
    except UnicodeEncodeError as error:
        raise ToolFailed("the content is not valid text: it holds half of a surrogate pair") from error


def _edits(
    old_text: str | None, new_text: str | None, replacements: Sequence[Replacement] | None
) -> Sequence[Replacement]:
    pair = (old_text, new_text) != (None, None)
    if replacements is not None:
        if pair or not replacements:
            raise ToolFailed(
                "Provide either old_text and new_text or a non-empty replacements list, not both."
            )
        edits = replacements
    elif old_text is None or new_text is None:
        raise ToolFailed("Provide old_text and new_text, or a non-empty replacements list.")
    else:
        edits = [Replacement(old_text, new_text)]
    for edit in edits:
        _encoded(edit.new_text)
    return edits


def _check_hash(path: str, current: str | None, expected: str) -> None:
    if current != expected:
        raise ToolFailed(
            f"Conflict: file {path!r} has changed (expected hash:{expected}, got hash:{current}). Re-read "
            "the file and retry."
        )


# --- what is shown ----------------------------------------------------------------------------


def _too_large(path: str) -> str:
    return (
        f"{path} is too large to read: the limit is {file_content.MAX_READ_BYTES} bytes. Find the lines you "
        "need with search_files, or read a part with a command such as `sed -n`"
    )


def _entry_line(entry: DirectoryEntry, prefix: str) -> str:
    name = f"{prefix}{shown_name(entry.name)}"
    link = "" if entry.target is None else f" -> {shown_name(entry.target)}"
    if entry.kind is EntryKind.DIRECTORY:
        return f"{name}/{link}"
    if entry.kind is EntryKind.FILE:
        return f"{name}{link}  ({entry.size_bytes} bytes)"
    return f"{name}{link}  ({_SHOWN_KINDS[entry.kind]})"


def _found_text(found: Found, what: str) -> str:
    lines = found.lines or ["No matches found."]
    if found.is_cut:
        lines = [
            *lines,
            f"[... cut after {len(found.lines)} {what}; narrow the pattern, the path or the glob]",
        ]
    if found.is_partial:
        lines = [*lines, "[not everything could be looked at; name a narrower path to see the rest]"]
    return "\n".join(lines)
