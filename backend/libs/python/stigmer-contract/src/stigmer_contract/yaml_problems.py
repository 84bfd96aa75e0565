"""What is wrong with a YAML text, where, and what would be right: PyYAML's errors in plain words."""

import re
from dataclasses import dataclass

import yaml

FieldPath = tuple[str | int, ...]
"""Keys and list indexes from the document's top to a value."""


@dataclass(frozen=True)
class Position:
    """A place in the text; both count from 1."""

    line: int
    column: int


class YamlProblem(Exception):
    """The text cannot be read any further."""

    def __init__(
        self, position: Position, message: str, hint: str | None = None, path: FieldPath = ()
    ) -> None:
        super().__init__(message)
        self.position = position
        self.message = message
        self.hint = hint
        self.path = path


def position_of(mark: yaml.Mark) -> Position:
    """The place of a mark of PyYAML's."""
    return Position(mark.line + 1, mark.column + 1)


def position_after(text: str) -> Position:
    """The place behind a text."""
    lines = re.split(r"\r\n|[\r\n\x85\u2028\u2029]", text)
    return Position(len(lines), len(lines[-1]) + 1)


_EXPLANATIONS: tuple[tuple[str, str, str | None], ...] = (
    # PyYAML 6.0 words on the left, matched as a prefix of `problem`; ours on the right.
    (
        "mapping values are not allowed here",
        "a colon is not possible here",
        "put a text that holds `: ` in quotes, or correct the indentation",
    ),
    ("could not find expected ':'", "a colon is missing after the key", "write `key: value`"),
    (
        "did not find expected <block end>",
        "the indentation does not fit",
        "let the keys of one mapping begin in the same column",
    ),
    (
        "expected <block end>, but found",
        "the indentation does not fit",
        "let the keys of one mapping begin in the same column; put a text with quotes inside in quotes",
    ),
    (
        "found unexpected end of stream",
        "a quote is opened and never closed",
        "close it, or double it inside the text",
    ),
    (
        "found unexpected document separator",
        "a quote is opened and never closed",
        "close it, or double it inside the text",
    ),
    (
        "expected ',' or ']'",
        "a list in brackets is not closed",
        "write `[one, two]`",
    ),
    (
        "expected ',' or '}'",
        "a mapping in braces is not closed",
        "write `{key: value, other: value}`",
    ),
    ("found undefined alias", "the alias refers to no anchor", "put a text that begins with `*` in quotes"),
    ("found duplicate anchor", "the anchor is defined twice", "choose another name"),
    (
        "found unknown escape character",
        "the backslash escape is unknown",
        "use single quotes, or double the backslash",
    ),
)


def explain_syntax_error(error: yaml.MarkedYAMLError, text: str) -> YamlProblem:
    """PyYAML's error about `text` in plain words."""
    mark = error.problem_mark or error.context_mark
    position = position_of(mark) if mark else Position(1, 1)
    problem = error.problem or "this cannot be read as YAML"
    if problem.startswith("found character"):
        character = text[mark.index] if mark and mark.index < len(text) else ""
        if character == "\t":
            return YamlProblem(position, "a tab cannot indent", "use spaces")
        return YamlProblem(position, f"a value cannot begin with {character!r}", "put the text in quotes")
    if problem.startswith("found unexpected") and error.context_mark:
        position = position_of(error.context_mark)  # the quote that was opened, not the end of the text
    for prefix, message, hint in _EXPLANATIONS:
        if problem.startswith(prefix):
            return YamlProblem(position, message, hint)
    return YamlProblem(position, problem)
