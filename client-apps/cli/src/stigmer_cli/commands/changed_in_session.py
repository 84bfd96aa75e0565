"""What an agent changed with its file tools, as the log of an execution tells it. Reads no files."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, cast

from stigmer_contract.events import Payload, RecordedEvent, ToolFinished, ToolOutcome, ToolStarted

CHANGING_TOOLS: Final = ("write_file", "edit_file")


class FileChange(NamedTuple):
    """One call that changed a file."""

    path: str
    diff: Sequence[str]
    """Lines of a unified diff; of a file that was written whole all lines are new."""


def changes_in(
    events: Iterable[RecordedEvent], load_payload: Callable[[Payload], object]
) -> list[FileChange]:
    """The changes that succeeded, in order."""
    started: dict[tuple[str, int, str], ToolStarted] = {}
    changes: list[FileChange] = []
    for recorded in events:
        match recorded.event:
            case ToolStarted(tool=tool) as event if tool in CHANGING_TOOLS:
                started[event.agent_path, event.turn, event.call_id] = event
            case ToolFinished(outcome=ToolOutcome.SUCCEEDED) as event:
                begun = started.get((event.agent_path, event.turn, event.call_id))
                if begun is not None:
                    changes.append(_change(load_payload(begun.arguments)))
            case _:
                pass
    return changes


def _change(arguments: object) -> FileChange:
    given = cast("dict[str, object]", arguments) if isinstance(arguments, dict) else {}
    path = str(given.get("path", ""))
    replaced = given.get("replacements")
    edits = [given, *(cast("list[object]", replaced) if isinstance(replaced, list) else [])]
    lines: list[str] = []
    for edit in edits:
        texts = cast("dict[str, object]", edit) if isinstance(edit, dict) else {}
        before = str(texts.get("old_text") or "").splitlines()
        after = str(texts.get("content") or texts.get("new_text") or "").splitlines()
        found = list(difflib.unified_diff(before, after, path, path, lineterm=""))
        lines += found[2:] if lines else found
    return FileChange(path, lines)
