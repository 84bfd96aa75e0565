"""The last lines of what running commands write, for a window that scrolls, and what is left of it after."""

from collections import deque
from typing import Final

WINDOW_LINES: Final = 6
"""Lines that are seen while the command runs."""
FIRST_LINES: Final = 4
LAST_LINES: Final = 4
MAX_PENDING_CHARACTERS: Final = 4000


class CommandOutput:
    """The output of one tool call, in pieces of any size."""

    def __init__(self) -> None:
        self._pending = ""
        self._count = 0
        self._first = list[str]()
        self._last: deque[str] = deque(maxlen=max(WINDOW_LINES, LAST_LINES))

    def take(self, text: str) -> None:
        """Add what was written. What a carriage return lets write over does not count."""
        *lines, pending = (self._pending + text).split("\n")
        for line in lines:
            self._add(_last_writing(line))
        # A carriage return at the end may be the first half of a line end.
        self._pending = pending[-MAX_PENDING_CHARACTERS:]

    def window(self) -> list[str]:
        """The last lines so far, the unfinished one among them."""
        unfinished = _last_writing(self._pending)
        lines = [*self._last, *([unfinished] if unfinished else [])]
        return lines[-WINDOW_LINES:]

    def finish(self) -> list[str]:
        """What stays on the screen: the first lines, how many were left out, and the last ones."""
        if self._pending:
            self._add(_last_writing(self._pending))
            self._pending = ""
        left_out = self._count - len(self._first) - LAST_LINES
        if left_out <= 0:
            rest = self._count - len(self._first)
            return self._first + (list(self._last)[-rest:] if rest else [])
        return [*self._first, f"… {left_out} more lines …", *list(self._last)[-LAST_LINES:]]

    def _add(self, line: str) -> None:
        self._count += 1
        if len(self._first) < FIRST_LINES:
            self._first.append(line)
        self._last.append(line)


def _last_writing(line: str) -> str:
    body = line.rstrip("\r")
    return body[body.rfind("\r") + 1 :]
