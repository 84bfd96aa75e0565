"""A tool's schema as models are shown it: an object, no outside reference, names that providers take. Pure.

What is shown may be looser than what was written; arguments are checked against what was written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from pydantic import JsonValue

from agent_runner.mcp_servers.tool_names import property_names

_Schema = dict[str, JsonValue]
MAX_INLINED: Final = 200
"""References that are written out in one schema; a further one is shown as anything."""
_DEFINITIONS: Final = ("$defs", "definitions")
_NOT_AT_THE_TOP: Final = (
    # Refused there by Anthropic, OpenAI or both (2026-11).
    "oneOf", "anyOf", "allOf", "not", "enum", "const", "if", "then", "else", "$ref", "dependentSchemas",
    # Of no use to a model.
    "$schema", "$id", "$anchor", "$dynamicAnchor", "$comment", "$vocabulary",
)  # fmt: skip


@dataclass(frozen=True)
class ShownSchema:
    """What a model is shown, and how its arguments are called in truth."""

    schema: _Schema
    renamed: Mapping[str, str] = field(default_factory=dict[str, str])
    """The arguments' own names by those that the model was shown."""

    def arguments(self, given: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """What the model gave, by the tool's own names."""
        return {self.renamed.get(name, name): value for name, value in given.items()}


def shown_schema(written: _Schema) -> ShownSchema:
    """The schema as a model is shown it."""
    writer = _Writer(written)
    whole = writer.resolved(written)
    properties = dict[str, JsonValue]()
    for part in (whole, *_branches(whole)):
        named = part.get("properties")
        for name, value in named.items() if isinstance(named, dict) else ():
            properties.setdefault(name, writer.shown(value))
    renamed = property_names(properties)
    shown_names = {name: shown for shown, name in renamed.items()}
    shown: _Schema = {
        key: writer.shown(value) if key not in ("required", "description", "examples", "default") else value
        for key, value in whole.items()
        if key not in (*_NOT_AT_THE_TOP, *_DEFINITIONS, "properties", "type", "required")
    }
    required = whole.get("required")
    shown["type"] = "object"
    shown["properties"] = {shown_names.get(name, name): value for name, value in properties.items()}
    if isinstance(required, list):
        names = [name for name in required if isinstance(name, str) and name in properties]
        if names:
            shown["required"] = [shown_names.get(name, name) for name in names]
    return ShownSchema(shown, renamed)


def _branches(schema: _Schema) -> list[_Schema]:
    """The alternatives at the top of a schema: their properties are all shown."""
    found = list[_Schema]()
    for key in ("allOf", "anyOf", "oneOf"):
        parts = schema.get(key)
        found += [part for part in (parts if isinstance(parts, list) else []) if isinstance(part, dict)]
    return found


class _Writer:
    """Writes references out: not every provider's form of schemas has them, and none follows outside ones."""

    def __init__(self, root: _Schema) -> None:
        self._root = root
        self._inlined = 0

    def resolved(self, schema: _Schema) -> _Schema:
        """The schema, or what it refers to."""
        for _ in range(10):
            target = self._target(schema.get("$ref")) if "$ref" in schema else None
            if target is None:
                return schema
            schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        return {key: value for key, value in schema.items() if key != "$ref"}

    def shown(self, value: JsonValue, within: frozenset[str] = frozenset()) -> JsonValue:
        """A part of a schema with its references written out; one within itself is shown as anything."""
        if isinstance(value, list):
            return [self.shown(each, within) for each in value]
        if not isinstance(value, dict):
            return value
        reference = value.get("$ref")
        if isinstance(reference, str) or "$dynamicRef" in value:
            target = self._target(reference)
            self._inlined += 1
            rest = {key: each for key, each in value.items() if key not in ("$ref", "$dynamicRef")}
            if target is None or reference in within or self._inlined > MAX_INLINED:
                return self.shown(rest, within) if rest else {}
            return self.shown({**target, **rest}, within | {cast("str", reference)})
        return {key: self.shown(each, within) for key, each in value.items() if key not in _DEFINITIONS}

    def _target(self, reference: JsonValue) -> _Schema | None:
        """What a reference within the document leads to (RFC 6901); None where it leads out, or nowhere."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        at: JsonValue = self._root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(at, dict) and name in at:
                at = at[name]
            elif isinstance(at, list) and name.isdecimal() and int(name) < len(at):
                at = at[int(name)]
            else:
                return None
        return at if isinstance(at, dict) else None
