"""Somebody who watches an answer being made, and remembers it."""


class Watching:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        """Of text and thinking, in order."""
        self.repairs: list[str] = []

    def show_answer(self, kind: str, text: str) -> None:
        self.pieces.append(text)

    def note_repair(self, what: str) -> None:
        self.repairs.append(what)
