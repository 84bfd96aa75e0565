"""Makes text harmless that a model, a tool, a file name or another machine had a hand in.

Applied where text leaves a program: to a terminal, a log, a line of JSON. What is stored stays as it came.
"""

import re
from typing import Final

# ECMA-48 (5th edition): CSI, then string sequences (OSC, DCS, APC, PM, SOS) to their end, then others. A
# string that does not end takes its line with it, but not the rest of the text, which it would hide.
_ESCAPE_SEQUENCE: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\r\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_LINE_END: Final = re.compile(r"\r\n?|[\u2028\u2029]")
# C0 and C1 controls but tab and line feed; what reorders text (Unicode UAX #9) or annotates it unseen; tags,
# which are letters that nobody sees (Unicode 16, 23.9).
_CONTROLS: Final = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\ufff9-\ufffb\U000e0000-\U000e007f"
)
_CONTROL_CHARACTER: Final = re.compile(f"[{_CONTROLS}]")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
"""Half a character; Python itself uses them for bytes of a file name that are not UTF-8."""
_UNSAFE_IN_LOG: Final = re.compile(f"[{_CONTROLS}\u2028\u2029\ud800-\udfff]")
_CONTINUATION: Final = "\n    "


def strip_controls(text: str) -> str:
    """For a terminal: without anything that steers it or reorders its text; tabs and line ends stay."""
    text = _ESCAPE_SEQUENCE.sub("", text)
    text = _CONTROL_CHARACTER.sub("", _LINE_END.sub("\n", text))
    return _SURROGATE.sub("\ufffd", text)


def escape_controls(text: str) -> str:
    """For a log: what would steer a terminal is spelled out.

    Lines after the first are indented, so that no text can pass for an entry of its own.
    """
    text = _UNSAFE_IN_LOG.sub(_spell, text.replace("\r\n", "\n"))
    return text.replace("\n", _CONTINUATION)


def escape_json(text: str) -> str:
    r"""JSON with the same characters as `\uXXXX`: another spelling of the same document.

    In JSON text they can stand in strings only, where the escape means the character itself.
    """
    return _UNSAFE_IN_LOG.sub(_escape_in_json, text) if _is_unsafe(text) else text


def _is_unsafe(text: str) -> bool:
    return not text.isascii() or "\x7f" in text


def _spell(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def _escape_in_json(match: re.Match[str]) -> str:
    units = match.group().encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place]:02x}{units[place + 1]:02x}" for place in range(0, len(units), 2))
