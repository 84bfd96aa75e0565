"""Compares what a person sees in a terminal with screens that were looked at.

After a wanted change: delete the recorded file, run its test, and look at every screen that differs.
"""

import os
import re
from pathlib import Path

from stigmer_cli.rendering.cells import cell_width

_IDS = re.compile(r"(?<=ses_|exe_)(?:\n?[0-9a-hjkmnp-tv-z]){26}")
"""Where the terminal's edge is, too."""
_SIGN_OF_LIFE = re.compile(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] (\S+ \S+).*")
_SECONDS = re.compile(r"(?<![\d$.])(\d+ min )?\d+(\.\d)? s\b")


def still(screen: str) -> str:
    """A screen without what is another one each time: ids, how long it took, and of the sign of life all but
    its beginning: the rest is a test of its own."""
    screen = _IDS.sub(lambda match: re.sub(r"\S", "0", match[0]), screen)
    return "\n".join(_SECONDS.sub("N s", _SIGN_OF_LIFE.sub(r"⠋ \1 …", line)) for line in screen.splitlines())


def shows_life(screen: str) -> bool:
    """Whether all of what stands below the rest is drawn: the sign of life is the last of it."""
    return _SIGN_OF_LIFE.match(screen.splitlines()[-1]) is not None


class Screens:
    """The screens of one session in a terminal, with their titles."""

    def __init__(self) -> None:
        self._seen: list[str] = []

    def take(self, title: str, screen: str) -> None:
        """The next one."""
        self._seen.append(f"--- {title} ---\n{still(screen)}\n")

    def compare(self, recorded: Path, columns: int) -> None:
        """Hold them against the file; without one, outside of CI, they are recorded."""
        text = "\n".join(self._seen)
        assert all(cell_width(line) <= columns for line in text.splitlines())
        if not recorded.exists() and not os.environ.get("CI"):
            recorded.parent.mkdir(exist_ok=True)
            recorded.write_text(text, encoding="utf-8")
        assert text == recorded.read_text(encoding="utf-8")
