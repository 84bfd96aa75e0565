"""Reads the text of an OpenAPI document, YAML or JSON, into plain values. It is hostile: all is bounded.

Unlike manifests, which a person is to be told about line by line, such documents are large and made by
programs: keys may be numbers (`200:`), and what a plain scalar means goes by YAML's core schema.
"""

import json
import re
from typing import Any, Final, NamedTuple

import yaml
from pydantic import JsonValue

from stigmer_contract.json_levels import levels_of

MAX_DOCUMENT_BYTES: Final = 16 << 20
MAX_DOCUMENT_DEPTH: Final = 100
MAX_DOCUMENT_VALUES: Final = 1_000_000

_Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where PyYAML was built with it: some eight times as fast."""
# YAML 1.2.2, section 10.3.2.
_NULL: Final = re.compile(r"null|Null|NULL|~|")
_TRUE: Final = re.compile(r"true|True|TRUE")
_FALSE: Final = re.compile(r"false|False|FALSE")
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,300}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?")


class DocumentUnreadable(ValueError):
    """The text is no document that can be read; says why, in one line."""


def read_document_text(content: bytes) -> JsonValue:
    """The values of a document. Values behind aliases of YAML are shared, not copied.

    Raises:
        DocumentUnreadable: it is too large, too deep, or neither JSON nor YAML.
    """
    if len(content) > MAX_DOCUMENT_BYTES:
        raise DocumentUnreadable(f"it is larger than {MAX_DOCUMENT_BYTES >> 20} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentUnreadable(f"byte {error.start} of it is not UTF-8 text") from error
    if text.lstrip()[:1] == "{":
        try:
            value: JsonValue = json.loads(text)
        except RecursionError as error:
            raise DocumentUnreadable(_TOO_DEEP) from error
        except ValueError:
            pass  # `{a: b}` is YAML
        else:
            _check_bounds(value)
            return value
    try:
        return _Builder().build(yaml.parse(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f" in line {mark.line + 1}"
        raise DocumentUnreadable(
            f"it cannot be read as YAML{line}: {error.problem or error.context}"
        ) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        if isinstance(error, DocumentUnreadable):
            raise
        raise DocumentUnreadable("it cannot be read as YAML") from error


_TOO_DEEP: Final = f"it is nested more than {MAX_DOCUMENT_DEPTH} levels deep"
_TOO_MANY: Final = f"it has more than {MAX_DOCUMENT_VALUES} values"


def _check_bounds(value: JsonValue) -> None:
    count = 0
    for depth, level in enumerate(levels_of(value), 1):
        count += len(level)
        if depth > MAX_DOCUMENT_DEPTH:
            raise DocumentUnreadable(_TOO_DEEP)
        if count > MAX_DOCUMENT_VALUES:
            raise DocumentUnreadable(_TOO_MANY)


class _Open(NamedTuple):
    """A list or mapping that has begun."""

    value: "list[JsonValue] | dict[str, JsonValue]"
    anchor: str | None
    keys: list[str]
    """Of a mapping the key whose value comes next; else nothing."""


class _Builder:
    """Builds values from YAML's events, without recursion."""

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._anchors: dict[str, JsonValue] = {}
        self._roots: list[JsonValue] = []

    def build(self, events: Any) -> JsonValue:
        """The only document's value."""
        for count, event in enumerate(events):
            if count > 2 * MAX_DOCUMENT_VALUES:
                raise DocumentUnreadable(_TOO_MANY)
            match event:
                case yaml.ScalarEvent():
                    self._scalar(event)
                case yaml.AliasEvent():
                    if event.anchor not in self._anchors:
                        raise DocumentUnreadable(f"the alias *{event.anchor} leads to nothing before it")
                    self._add(self._anchors[event.anchor], None)
                case yaml.SequenceStartEvent():
                    self._begin(list[JsonValue](), event.anchor)
                case yaml.MappingStartEvent():
                    self._begin(dict[str, JsonValue](), event.anchor)
                case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                    ended = self._open.pop()
                    self._add(ended.value, ended.anchor)
                case _:
                    pass
        if len(self._roots) != 1:
            raise DocumentUnreadable("it is empty" if not self._roots else "it holds more than one document")
        return self._roots[0]

    def _begin(self, value: "list[JsonValue] | dict[str, JsonValue]", anchor: str | None) -> None:
        if len(self._open) >= MAX_DOCUMENT_DEPTH:
            raise DocumentUnreadable(_TOO_DEEP)
        within = self._open[-1] if self._open else None
        if within is not None and isinstance(within.value, dict) and not within.keys:
            raise DocumentUnreadable("a key of it is a list or a mapping")
        self._open.append(_Open(value, anchor, []))

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        text: str = event.value
        within = self._open[-1] if self._open else None
        if within is not None and isinstance(within.value, dict) and not within.keys:
            if text in within.value:
                raise DocumentUnreadable(f"the key {text[:80]!r} stands twice in one mapping")
            within.keys.append(text)
            return
        is_plain = event.implicit[0]  # neither quoted nor tagged
        self._add(_meaning(text) if is_plain else text, event.anchor)

    def _add(self, value: JsonValue, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = value
        if not self._open:
            self._roots.append(value)
            return
        within = self._open[-1]
        if isinstance(within.value, list):
            within.value.append(value)
        elif within.keys:
            within.value[within.keys.pop()] = value
        else:
            raise DocumentUnreadable("a key of it is an alias")


def _meaning(text: str) -> JsonValue:
    """What a plain scalar means."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return text[0] in "tT"
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if abs(number) != float("inf") else text
    return text
