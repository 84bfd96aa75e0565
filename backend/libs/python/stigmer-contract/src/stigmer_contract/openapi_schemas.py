"""Schemas of an OpenAPI document as schemas of a tool's arguments: whole in themselves, and bounded. Pure."""

from typing import Any, Final, cast
from urllib.parse import unquote

from pydantic import JsonValue

from stigmer_contract.json_schemas import (
    MAX_SCHEMA_NODES,
    SCHEMA_KEYWORDS,
    SCHEMA_LISTS,
    SCHEMAS_BY_NAME,
    missing_part,
)

MAX_NESTING: Final = 32
_MAX_CHAIN: Final = 20
"""References that lead to nothing but another reference."""
_LEFT_OUT: Final = frozenset(
    {
        "$anchor", "$comment", "$dynamicAnchor", "$dynamicRef", "$id", "$schema", "$vocabulary", "deprecated",
        "discriminator", "example", "examples", "externalDocs", "nullable", "readOnly", "writeOnly", "xml",
    }
)  # fmt: skip
"""Of no meaning for arguments, or said in another way here."""

_Object = dict[str, JsonValue]


def resolve(document: JsonValue, value: JsonValue) -> JsonValue:
    """The value, or what it refers to in the document.

    Raises:
        ValueError: the reference leads out of the document, to nothing, or in a circle.
    """
    for _ in range(_MAX_CHAIN):
        reference = value.get("$ref") if isinstance(value, dict) else None
        if not isinstance(reference, str):
            return value
        value = _target(document, reference)
    raise ValueError("a reference leads in a circle")


def _target(document: JsonValue, reference: str) -> JsonValue:
    if not reference.startswith("#"):
        raise ValueError(f"{reference[:200]!r} leads out of the document, and is not followed")
    path = unquote(reference)
    if (
        not isinstance(document, dict)
        or not path.startswith("#/")
        or missing_part(document, path) is not None
    ):
        raise ValueError(f"{reference[:200]!r} leads to nothing in the document")
    found: JsonValue = document
    for part in path[2:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        found = cast("Any", found)[int(name) if isinstance(found, list) else name]
    return found


class ArgumentSchemas:
    """The schemas of one operation's arguments, and what they refer to."""

    def __init__(self, document: JsonValue, *, is_old: bool) -> None:
        """`is_old`: the document is of OpenAPI 3.0, where a reference stands alone."""
        self._document = document
        self._is_old = is_old
        self._names: dict[str, str] = {}
        self._pending: list[str] = []
        self._left = MAX_SCHEMA_NODES
        self.definitions: dict[str, JsonValue] = {}
        """What is referred to, by the name beneath `$defs`."""

    def take(self, schema: JsonValue) -> JsonValue:
        """A schema as it may stand in the tool's; what it refers to is taken, too.

        Raises:
            ValueError: it is none, too large, too deep, or leads out of the document.
        """
        taken = self._schema(schema, 0)
        while self._pending:
            reference = self._pending.pop()
            self.definitions[self._names[reference]] = self._schema(_target(self._document, reference), 0)
        return taken

    def _schema(self, value: JsonValue, depth: int) -> JsonValue:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"its schema has more than {MAX_SCHEMA_NODES} parts")
        if depth > MAX_NESTING:
            raise ValueError(f"its schema is nested more than {MAX_NESTING} levels deep")
        if isinstance(value, bool):
            return value
        if not isinstance(value, dict):
            raise ValueError(f"{str(value)[:80]!r} stands where a schema is to be")
        taken = _Object()
        for keyword, held in value.items():
            if keyword in _LEFT_OUT or keyword.startswith("x-"):
                continue
            if keyword == "$ref":
                taken["$ref"] = self._reference(held)
                if self._is_old:
                    return taken
            elif keyword in SCHEMA_KEYWORDS and not isinstance(held, list):
                taken[keyword] = self._schema(held, depth + 1)
            elif (keyword in SCHEMA_LISTS or keyword in SCHEMA_KEYWORDS) and isinstance(held, list):
                taken[keyword] = [self._schema(each, depth + 1) for each in held]
            elif keyword in SCHEMAS_BY_NAME and isinstance(held, dict):
                taken[keyword] = {name: self._schema(each, depth + 1) for name, each in held.items()}
            else:
                taken[keyword] = held
        return _in_new_words(value, _without_answers(value, taken))

    def _reference(self, reference: JsonValue) -> str:
        if not isinstance(reference, str):
            raise ValueError("a `$ref` of it is no text")
        name = self._names.get(reference)
        if name is None:
            _target(self._document, reference)
            last = "".join(each if each.isalnum() or each in "_-." else "_" for each in reference)
            last = last.rpartition("_")[2][:64] or "schema"
            name, count = last, 1
            while name in self._names.values():
                count += 1
                name = f"{last}_{count}"
            self._names[reference] = name
            self._pending.append(reference)
        return f"#/$defs/{name}"


def _without_answers(written: _Object, taken: _Object) -> _Object:
    """The schema without properties that only answers have (`readOnly`)."""
    properties = written.get("properties")
    if not isinstance(properties, dict):
        return taken
    hidden = {
        name for name, each in properties.items() if isinstance(each, dict) and each.get("readOnly") is True
    }
    if hidden:
        shown = cast("_Object", taken["properties"])
        taken["properties"] = {name: each for name, each in shown.items() if name not in hidden}
        required = taken.get("required")
        if isinstance(required, list):
            taken["required"] = [name for name in required if name not in hidden]
    return taken


def _in_new_words(written: _Object, taken: _Object) -> _Object:
    """What OpenAPI 3.0 says otherwise than JSON Schema does today."""
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(taken.get(exclusive), bool) and taken.pop(exclusive) is True and bound in taken:
            taken[exclusive] = taken.pop(bound)
    if written.get("nullable") is not True:
        return taken
    kind, choices = taken.get("type"), taken.get("enum")
    if isinstance(choices, list) and None not in choices:
        taken["enum"] = [*choices, None]
    if isinstance(kind, str):
        taken["type"] = [kind, "null"]
        return taken
    return {"anyOf": [taken, {"type": "null"}]}
