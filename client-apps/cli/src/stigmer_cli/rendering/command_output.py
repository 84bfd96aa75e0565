"""Which lines of a command's output are shown: the first as they come, and the last when it ends."""

from collections import deque

FIRST_LINES = 8
LAST_LINES = 4
MAX_PENDING_CHARACTERS = 4000


class CommandOutput:
    """The output of one tool call, in pieces of any size."""

    def __init__(self) -> None:
        self._pending = ""
        self._count = 0
        self._last: deque[str] = deque(maxlen=LAST_LINES)

    def take(self, text: str) -> list[str]:
        """The lines to show now."""
        *lines, self._pending = (self._pending + text).split("\n")
        self._pending = self._pending[-MAX_PENDING_CHARACTERS:]
        return [line for line in lines if self._shows(line)]

    def finish(self) -> list[str]:
        """The lines to show at the end: how many were left out, then the last ones."""
        shown = [self._pending] if self._pending and self._shows(self._pending) else []
        left_out = self._count - FIRST_LINES - len(self._last)
        note = [f"… {left_out} more lines …"] if left_out > 0 else []
        return shown + note + list(self._last)

    def _shows(self, line: str) -> bool:
        self._count += 1
        if self._count <= FIRST_LINES:
            return True
        self._last.append(line)
        return False
