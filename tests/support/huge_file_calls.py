"""Calls of the file tools on a file that is larger than any memory: tried natively and in containers."""

from collections.abc import Mapping, Sequence
from typing import Final

MAKE_HUGE_FILES: Final = "truncate -s 9G huge; printf x | dd of=text.bin bs=1 seek=70M 2>/dev/null"
"""The command that makes it, and another that is no text."""
HUGE_FILE_CALLS: Final[Sequence[tuple[str, Mapping[str, str], bool]]] = (
    ("read_file", {"path": "huge"}, False),
    ("edit_file", {"path": "huge", "old_text": "a", "new_text": "b"}, False),
    ("file_info", {"path": "huge"}, True),
    ("search_files", {"pattern": "needle"}, True),
    ("write_file", {"path": "huge", "content": "small", "expected_hash": "0"}, False),
    ("write_file", {"path": "huge", "content": "small"}, True),
    ("read_file", {"path": "huge"}, True),
)
"""Tool, arguments, and whether the call succeeds. In the end the file holds five bytes."""
