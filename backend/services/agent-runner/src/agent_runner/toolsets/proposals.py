"""What a call of a file tool would make of its file: for whoever decides whether it may. Changes nothing.

A later call of the same answer builds on what an earlier one would leave.
"""
# ruff: noqa: PTH118 - paths here are text as the workspace has them, not pathlib's

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent_runner.toolsets import file_content
from agent_runner.toolsets.shown_names import meant_name
from agent_runner.toolsets.text_edits import EditRefused, Replacement, apply_replacements
from agent_runner.workspace import IsolatedFiles

NO_FILE: Final = "absent"
"""In the place of a hash: there is no such file. As an `expected_hash` it refuses to write over one."""
WRITING_TOOLS: Final = frozenset({"write_file", "edit_file"})
MAX_DIFFED_LINES: Final = 4000
"""Of both sides together; a longer diff helps nobody to decide, and takes seconds to make."""


@dataclass(frozen=True)
class Proposal:
    """A change of one file."""

    place: str
    """The file, as the workspace has it."""
    base: str
    """Hash of what it is made on, or `NO_FILE`."""
    after: bytes
    diff: str | None
    """Unified; None: too long, or no text."""


def propose(
    files: IsolatedFiles, tool: str, arguments: Mapping[str, Any], earlier: Mapping[str, Proposal]
) -> Proposal | None:
    """What a call would make of its file; None where it would fail, or is no such call.

    Args:
        files: of the session.
        tool: its name.
        arguments: as the tool gets them.
        earlier: what calls before it would make of their files, by place.
    """
    path = arguments.get("path")
    if tool not in WRITING_TOOLS or not isinstance(path, str):
        return None
    try:
        written = os.path.normpath(os.path.join(files.root, path))
        meant = meant_name(written)
        place = written if meant is None or files.exists(written) else meant
        before = earlier[place].after if place in earlier else _read(files, place)
        if before is not None and len(before) > file_content.MAX_EDIT_BYTES:
            return None
        after = _after(tool, arguments, before, path)
    except (OSError, ValueError):  # which the call itself tells the model
        return None
    if after is None:
        return None
    base = NO_FILE if before is None else file_content.content_digest(before)
    return Proposal(place, base, after, _diff(path, before or b"", after))


def _read(files: IsolatedFiles, place: str) -> bytes | None:
    try:
        data = files.read_bytes(place, max_bytes=file_content.MAX_EDIT_BYTES)
    except FileNotFoundError:
        return None
    if data is None:
        raise ValueError("too large")
    return data


def _after(tool: str, arguments: Mapping[str, Any], before: bytes | None, path: str) -> bytes | None:
    if tool == "write_file":
        content = arguments.get("content")
        return content.encode() if isinstance(content, str) else None
    if before is None:
        return None
    replacements: Sequence[Replacement] | None = arguments.get("replacements")
    if replacements is None:
        old, new = arguments.get("old_text"), arguments.get("new_text")
        if not isinstance(old, str) or not isinstance(new, str):
            return None
        replacements = [Replacement(old, new)]
    text, encoding, errors = file_content.text_of(before)
    try:
        return apply_replacements(text, replacements, path).encode(encoding, errors)
    except EditRefused:
        return None


def _diff(path: str, before: bytes, after: bytes) -> str | None:
    try:
        old, new = before.decode().splitlines(), after.decode().splitlines()
    except ValueError:
        return None
    if len(old) + len(new) > MAX_DIFFED_LINES:
        return None
    return "\n".join(difflib.unified_diff(old, new, path, path, lineterm=""))
