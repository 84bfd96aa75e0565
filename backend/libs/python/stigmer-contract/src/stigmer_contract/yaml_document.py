"""Reads YAML text that a person wrote into plain values, and remembers where each value stands.

Knows YAML and its traps (tabs, ambiguous words, duplicate keys, alias bombs), nothing of manifests.
Never constructs objects from tags.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import yaml
from pydantic import JsonValue

MAX_TEXT_BYTES = 256 * 1024
"""A larger text is refused unread."""
MAX_DEPTH = 64
MAX_VALUES = 10_000
"""Values of a text, and of each of its documents after its aliases are followed."""
MAX_CHARACTERS = 1024 * 1024
"""Characters of one document's values after its aliases are followed."""

FieldPath = tuple[str | int, ...]
"""Keys and list indexes from the document's top to a value."""

_CORE = "tag:yaml.org,2002:"
_UNUSABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_PREFIXED = re.compile(r"[-+]?0(x[0-9a-fA-F_]+|b[01_]+)")
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
_LARGEST_INTEGER = 2**63


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


@dataclass
class YamlDocument:
    """One document of the text."""

    start: Position
    value: JsonValue = None
    values: dict[FieldPath, Position] = field(default_factory=dict[FieldPath, Position])
    """Where each value begins; a value that is written as nothing stands behind its key."""
    keys: dict[FieldPath, Position] = field(default_factory=dict[FieldPath, Position])
    """Where the key of each mapping's value begins."""
    problems: list[YamlProblem] = field(default_factory=list[YamlProblem])
    """What is wrong with single values, which are then missing from `value`."""


def decode_text(content: bytes) -> str:
    """UTF-8 text without a byte order mark.

    Raises:
        YamlProblem: too long, or not UTF-8.
    """
    if len(content) > MAX_TEXT_BYTES:
        raise YamlProblem(Position(1, 1), f"the text is longer than {MAX_TEXT_BYTES // 1024} KiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", errors="replace")
        raise YamlProblem(
            _position_after(before),
            f"byte 0x{content[error.start]:02x} is not UTF-8 text",
            "save the file in the encoding UTF-8",
        ) from error


def read_documents(text: str) -> Iterator[YamlDocument]:
    """The text's documents in order; empty ones are left out.

    Raises:
        YamlProblem: not YAML from here on. Documents before it have been yielded.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise YamlProblem(Position(1, 1), f"the text is longer than {MAX_TEXT_BYTES // 1024} KiB")
    unusable = _UNUSABLE.search(text)
    if unusable:
        raise YamlProblem(
            _position_after(text[: unusable.start()]),
            f"the control character U+{ord(unusable.group()):04X} cannot stand in YAML",
            "delete it, or write it as an escape in double quotes",
        )
    loader = _BoundedLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                continue
            if not isinstance(node, yaml.ScalarNode) or node.value or node.style:
                yield _Reading(node).document
    except yaml.MarkedYAMLError as error:
        raise _explain(error, text) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # bad escapes such as "\UFFFFFFFF"
        raise YamlProblem(loader.position(), "this cannot be read as YAML") from error


class _BoundedLoader(yaml.SafeLoader):
    """Refuses deep nesting before Python's own stack does."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.values = 0

    def position(self) -> Position:
        """How far the text has been read."""
        return Position(self.line + 1, self.column + 1)

    def _next_position(self) -> Position:
        event = cast("yaml.Event", self.peek_event())  # pyright: ignore[reportUnknownMemberType] - untyped
        return _position(cast("yaml.Mark", event.start_mark))

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        self.values += 1
        if self.depth > MAX_DEPTH:
            raise YamlProblem(self._next_position(), f"nested deeper than {MAX_DEPTH} levels")
        if self.values > MAX_VALUES:
            raise YamlProblem(self._next_position(), f"more than {MAX_VALUES} values")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Reading:
    """Turns one node graph into values. The only state of a walk: the document and what it cost so far."""

    def __init__(self, root: yaml.Node) -> None:
        self.document = YamlDocument(_position(root.start_mark))
        self._values = 0
        self._characters = 0
        self._open: set[int] = set()  # ids of the nodes around the one that is read
        self.document.value = self._read(root, (), None)

    def _read(self, node: yaml.Node, path: FieldPath, key: yaml.Node | None) -> JsonValue:
        self._count(node, path)
        position = _position(node.start_mark)
        if key is not None and isinstance(node, yaml.ScalarNode) and not node.value and not node.style:
            # A value that is written as nothing begins where the next key does; its own key is nearer.
            position = _position(key.start_mark)
        self.document.values[path] = position
        if isinstance(node, yaml.ScalarNode):
            try:
                return _read_scalar(node)
            except YamlProblem as problem:
                problem.path = path
                self.document.problems.append(problem)
                return None
        if id(node) in self._open:
            place = _position(key.start_mark) if key else position
            raise YamlProblem(place, "the alias refers to what it stands in", None, path)
        self._open.add(id(node))
        if isinstance(node, yaml.MappingNode):
            value = self._read_mapping(node, path)
        else:
            value = [self._read(item, (*path, index), None) for index, item in enumerate(node.value)]
        self._open.remove(id(node))
        return value

    def _read_mapping(self, node: yaml.MappingNode, path: FieldPath) -> JsonValue:
        mapping: dict[str, JsonValue] = {}
        for key_node, value_node in node.value:
            try:
                key = _read_key(key_node)
            except YamlProblem as problem:
                problem.path = path
                self.document.problems.append(problem)
                continue
            value_path = (*path, key)
            if key in mapping:
                first = self.document.keys[value_path]
                self.document.problems.append(
                    YamlProblem(
                        _position(key_node.start_mark),
                        f"the key {key!r} stands here twice, first in line {first.line}",
                        "keep one of them",
                        value_path,
                    )
                )
                continue
            self.document.keys[value_path] = _position(key_node.start_mark)
            mapping[key] = self._read(value_node, value_path, key_node)
        return mapping

    def _count(self, node: yaml.Node, path: FieldPath) -> None:
        self._values += 1
        if isinstance(node, yaml.ScalarNode):
            self._characters += len(node.value)
        if self._values > MAX_VALUES or self._characters > MAX_CHARACTERS:
            raise YamlProblem(
                _position(node.start_mark),
                "the document grows too large when its aliases are followed",
                "write fewer aliases",
                path,
            )


def _read_key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise YamlProblem(_position(node.start_mark), "a key must be text, not a list or a mapping")
    if node.tag == f"{_CORE}merge":
        raise YamlProblem(
            _position(node.start_mark), "merge keys (`<<`) are not supported", "write the fields out"
        )
    value = _read_scalar(node)
    if not isinstance(value, str):
        raise YamlProblem(
            _position(node.start_mark),
            f"the key {node.value!r} is not text" if node.value else "a key is missing before the colon",
            f'put it in quotes: "{node.value}"' if node.value else "write `key: value`",
        )
    return value


def _read_scalar(node: yaml.ScalarNode) -> JsonValue:
    text = node.value
    if _UNUSABLE.search(text):
        raise YamlProblem(
            _position(node.start_mark), "the text holds a control character that cannot be used"
        )
    match node.tag.removeprefix(_CORE):
        case "str" | "value":
            return float(text) if not node.style and _EXPONENT.fullmatch(text) else text
        case "null":
            return None
        case "bool" if text.lower() in {"true", "false"}:
            return text.lower() == "true"
        case "int" if _DECIMAL.fullmatch(text) or _PREFIXED.fullmatch(text):
            return _read_integer(node)
        case "float":
            return _read_float(node)
        case "bool" | "int" | "timestamp" as kind:
            meaning = {"bool": "a truth value", "int": "a number in base 8 or 60", "timestamp": "a date"}[
                kind
            ]
            hint = f'for text put it in quotes: "{text}"'
            if kind == "bool":
                hint += f"; else write {'true' if text.lower() in {'yes', 'on', 'y'} else 'false'}"
            raise YamlProblem(_position(node.start_mark), f"YAML may read `{text}` as {meaning}", hint)
        case tag:
            raise YamlProblem(
                _position(node.start_mark), f"the tag `{_short(tag)}` is not supported", "leave the tag out"
            )


def _read_integer(node: yaml.ScalarNode) -> int:
    digits = node.value.replace("_", "")
    if len(digits) <= 80:
        number = int(digits, 0)
        if abs(number) < _LARGEST_INTEGER:
            return number
    raise YamlProblem(_position(node.start_mark), "the number is too large", "for text put it in quotes")


def _read_float(node: yaml.ScalarNode) -> float:
    text = node.value.replace("_", "")
    try:
        number = float(text)
    except ValueError:  # .inf, .nan, base 60
        number = math.nan
    if not math.isfinite(number):
        raise YamlProblem(
            _position(node.start_mark),
            f"{_short(node.value)!r} is not a number that can be used",
            f'for text put it in quotes: "{_short(node.value)}"',
        )
    return number


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"


def _position(mark: yaml.Mark) -> Position:
    return Position(mark.line + 1, mark.column + 1)


def _position_after(text: str) -> Position:
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


def _explain(error: yaml.MarkedYAMLError, text: str) -> YamlProblem:
    mark = error.problem_mark or error.context_mark
    position = _position(mark) if mark else Position(1, 1)
    problem = error.problem or "this cannot be read as YAML"
    if problem.startswith("found character"):
        character = text[mark.index] if mark and mark.index < len(text) else ""
        if character == "\t":
            return YamlProblem(position, "a tab cannot indent", "use spaces")
        return YamlProblem(position, f"a value cannot begin with {character!r}", "put the text in quotes")
    if problem.startswith("found unexpected") and error.context_mark:
        position = _position(error.context_mark)  # the quote that was opened, not the end of the text
    for prefix, message, hint in _EXPLANATIONS:
        if problem.startswith(prefix):
            return YamlProblem(position, message, hint)
    return YamlProblem(position, problem)
