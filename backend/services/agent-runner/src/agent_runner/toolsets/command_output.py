"""Output of commands as a model reads it: labelled, without what was overwritten, bounded. Pure."""

from typing import Final

HEAD_SHARE: Final = 0.4
"""Of what is shown of long output; a build's first error stands at the beginning, its summary at the end."""


def labelled(stdout: str, stderr: str) -> str:
    """Both streams under their names; nothing of one that is empty."""
    parts = [f"[{name}]\n{text}" for name, text in (("stdout", stdout), ("stderr", stderr)) if text]
    return "\n".join(parts)


def fold_progress(text: str) -> str:
    """Lines as a terminal would leave them: what a carriage return overwrote is gone."""
    if "\r" not in text:
        return text
    return "\n".join(_last_writing(line) for line in text.split("\n"))


def cut_middle(text: str, max_characters: int, notice: str) -> str:
    """At most so many characters: the beginning and the end, with `notice` where something is missing."""
    if len(text) <= max_characters:
        return text
    note = f"\n[... {len(text) - max_characters} characters cut; {notice} ...]\n"
    room = max(0, max_characters - len(note))
    head = int(room * HEAD_SHARE)
    # Whole lines where they are not too long.
    line_end = text.rfind("\n", head // 2, head)
    head = line_end if line_end > 0 else head
    tail = len(text) - (room - head)
    line_start = text.find("\n", tail, tail + room // 4)
    tail = line_start + 1 if line_start != -1 else tail
    return text[:head] + note + text[tail:]


def _last_writing(line: str) -> str:
    body = line.rstrip("\r")
    return body[body.rfind("\r") + 1 :]
