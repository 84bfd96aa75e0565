"""Reads YAML text that a person wrote into plain values, and remembers where each value stands.

Knows YAML and its traps (tabs, ambiguous words, duplicate keys, alias bombs), nothing of manifests.
Never constructs objects from tags.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import yaml
from pydantic import JsonValue

from stigmer_contract.yaml_problems import (
    FieldPath,
    Position,
    YamlProblem,
    explain_syntax_error,
    position_after,
    position_of,
)
from stigmer_contract.yaml_scalars import CORE_TAG, UNUSABLE_CHARACTER, read_scalar

MAX_TEXT_BYTES = 256 * 1024
"""A larger text is refused unread."""
MAX_DEPTH = 64
MAX_VALUES = 10_000
"""Values of a text, and of each of its documents after its aliases are followed."""
MAX_CHARACTERS = 1024 * 1024
"""Characters of one document's values after its aliases are followed."""


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
            position_after(before),
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
    unusable = UNUSABLE_CHARACTER.search(text)
    if unusable:
        raise YamlProblem(
            position_after(text[: unusable.start()]),
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
        raise explain_syntax_error(error, text) from error
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
        return position_of(cast("yaml.Mark", event.start_mark))

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
        self.document = YamlDocument(position_of(root.start_mark))
        self._values = 0
        self._characters = 0
        self._open: set[int] = set()  # ids of the nodes around the one that is read
        self.document.value = self._read(root, (), None)

    def _read(self, node: yaml.Node, path: FieldPath, key: yaml.Node | None) -> JsonValue:
        self._count(node, path)
        position = position_of(node.start_mark)
        if key is not None and isinstance(node, yaml.ScalarNode) and not node.value and not node.style:
            # A value that is written as nothing begins where the next key does; its own key is nearer.
            position = position_of(key.start_mark)
        self.document.values[path] = position
        if isinstance(node, yaml.ScalarNode):
            try:
                return read_scalar(node)
            except YamlProblem as problem:
                problem.path = path
                self.document.problems.append(problem)
                return None
        if id(node) in self._open:
            place = position_of(key.start_mark) if key else position
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
                        position_of(key_node.start_mark),
                        f"the key {key!r} stands here twice, first in line {first.line}",
                        "keep one of them",
                        value_path,
                    )
                )
                continue
            self.document.keys[value_path] = position_of(key_node.start_mark)
            mapping[key] = self._read(value_node, value_path, key_node)
        return mapping

    def _count(self, node: yaml.Node, path: FieldPath) -> None:
        self._values += 1
        if isinstance(node, yaml.ScalarNode):
            self._characters += len(node.value)
        if self._values > MAX_VALUES or self._characters > MAX_CHARACTERS:
            raise YamlProblem(
                position_of(node.start_mark),
                "the document grows too large when its aliases are followed",
                "write fewer aliases",
                path,
            )


def _read_key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise YamlProblem(position_of(node.start_mark), "a key must be text, not a list or a mapping")
    if node.tag == f"{CORE_TAG}merge":
        raise YamlProblem(
            position_of(node.start_mark), "merge keys (`<<`) are not supported", "write the fields out"
        )
    value = read_scalar(node)
    if not isinstance(value, str):
        raise YamlProblem(
            position_of(node.start_mark),
            f"the key {node.value!r} is not text" if node.value else "a key is missing before the colon",
            f'put it in quotes: "{node.value}"' if node.value else "write `key: value`",
        )
    return value
