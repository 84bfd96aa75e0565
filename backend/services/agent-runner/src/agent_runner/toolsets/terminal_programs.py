"""Recognises commands that begin a program which needs a terminal, and would wait for one in vain. Pure.

A help to the model, no boundary: what is not recognised runs, and ends with the time-out at worst.
"""

import re
from collections.abc import Iterator
from typing import Final

_ALWAYS: Final = frozenset({"vi", "vim", "nvim", "nano", "pico", "htop", "btop", "mc", "tmux", "screen"})
_UNLESS: Final = {
    "vi": ("-c", "-es", "-e", "-s", "--version", "--help"),
    "vim": ("-c", "-es", "-e", "-s", "--version", "--help"),
    "nvim": ("-c", "-es", "-e", "-s", "--headless", "--version", "--help"),
    "emacs": ("--batch", "-batch", "--version", "--help"),
    "top": ("-b", "-v", "-h", "--version"),
    "tmux": ("-V", "-d", "ls", "kill-server", "kill-session", "send-keys", "capture-pane"),
    "screen": ("-v", "-d", "-ls", "-list"),
}
_WITH_BATCH_MODE: Final = frozenset({"emacs", "top"})
_WRAPPERS: Final = frozenset({"sudo", "env", "exec", "command", "nohup", "time", "nice"})
_BEFORE_A_COMMAND: Final = frozenset({"then", "do", "else", "!", "{", "if", "while", "until"})
# One alternative for each kind of piece, none of which can match what another one can: linear.
_PIECES: Final = re.compile(
    r"""(?P<quoted>'[^']*'|"(?:[^"\\]|\\.)*")|(?P<escaped>\\.)"""
    r"""|(?P<separator>[;&|()\n]+)|(?P<space>[ \t\r]+)"""
    r"""|(?P<word>[^\s;&|()'"\\]+)|(?P<other>.)""",
    re.DOTALL,
)
_ASSIGNMENT: Final = re.compile(r"\w+=")
_MAX_SCANNED: Final = 20_000


def terminal_program(command: str) -> str | None:
    """The program in the shell command that needs a terminal; None where none is seen."""
    scanned = command[:_MAX_SCANNED]
    here_document = scanned.find("<<")
    if here_document != -1:
        scanned = scanned[:here_document]
    for words in _commands(scanned):
        name = words[0].rpartition("/")[2]
        if name in _ALWAYS or name in _WITH_BATCH_MODE:
            allowed = _UNLESS.get(name, ("--version", "--help"))
            if not any(word.startswith(allowed) for word in words[1:]):
                return name
    return None


def _commands(text: str) -> Iterator[list[str]]:
    """The words of each simple command, from its program on."""
    words, current = list[str](), ""
    for piece in _PIECES.finditer(text):
        kind = piece.lastgroup
        if kind in ("space", "separator"):
            if current:
                words.append(current)
                current = ""
            if kind == "separator":
                yield from _from_program(words)
                words = []
        else:
            current += piece[0].strip("'\"") if kind == "quoted" else piece[0]
    if current:
        words.append(current)
    yield from _from_program(words)


def _from_program(words: list[str]) -> Iterator[list[str]]:
    place = 0
    while place < len(words) and (
        words[place] in _WRAPPERS or words[place] in _BEFORE_A_COMMAND or _ASSIGNMENT.match(words[place])
    ):
        place += 1
    if place < len(words):
        yield words[place:]
