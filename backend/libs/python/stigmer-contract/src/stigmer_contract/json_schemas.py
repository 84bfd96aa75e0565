"""Checks JSON Schemas that people and servers write: their form, their bounds, where they refer to.

What a schema says of a value is decided elsewhere. Draft 2020-12, and of the earlier ones what is the same.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

MAX_SCHEMA_NODES: Final = 5_000
"""Objects, lists and values in one schema."""
MAX_SCHEMA_DEPTH: Final = 32

_TYPES: Final = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
_SCHEMA: Final = frozenset(
    {
        "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then",
        "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip
_SCHEMAS_BY_NAME: Final = frozenset(
    {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}
)
_SCHEMA_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NUMBERS: Final = frozenset({"exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"})
_COUNTS: Final = frozenset(
    {
        "maxContains", "maxItems", "maxLength", "maxProperties", "minContains", "minItems", "minLength",
        "minProperties",
    }
)  # fmt: skip
_TEXTS: Final = frozenset({"$anchor", "$id", "$schema", "description", "format", "pattern", "title"})
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")


def check_arguments_schema(schema: Mapping[str, JsonValue]) -> None:
    """Refuse what cannot be the schema of a tool's arguments.

    Raises:
        ValueError: why, and where in the schema.
    """
    if schema.get("type") != "object":
        raise ValueError("must be a JSON Schema of an object: `type: object`, with `properties`")
    check_schema(schema)


def check_schema(schema: Mapping[str, JsonValue]) -> None:
    """Refuse what is no schema, is too large or too deep, or refers to anything outside of itself.

    Raises:
        ValueError: why, and where in the schema.
    """
    _check_bounds(schema)
    _check_form(dict(schema), schema, "")


def _check_bounds(schema: Mapping[str, JsonValue]) -> None:
    pending: list[tuple[JsonValue, int]] = [(dict(schema), 1)]
    count = 0
    while pending:
        value, depth = pending.pop()
        count += 1
        if count > MAX_SCHEMA_NODES:
            raise ValueError(f"the schema has more than {MAX_SCHEMA_NODES} parts")
        if depth > MAX_SCHEMA_DEPTH:
            raise ValueError(f"the schema is nested more than {MAX_SCHEMA_DEPTH} levels deep")
        if isinstance(value, Mapping):
            pending += [(child, depth + 1) for child in value.values()]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            pending += [(child, depth + 1) for child in value]


def _check_form(value: JsonValue, whole: Mapping[str, JsonValue], path: str) -> None:
    if isinstance(value, bool):
        return
    if not isinstance(value, dict):
        raise _wrong(path, "must be a schema: a mapping, true or false")
    for keyword, held in value.items():
        place = f"{path}.{keyword}".lstrip(".")
        if keyword in _REFERENCES:
            _check_reference(held, whole, place)
        elif keyword == "items" and isinstance(held, list):  # before 2020-12
            _check_list(held, whole, place)
        elif keyword in _SCHEMA:
            _check_form(held, whole, place)
        elif keyword in _SCHEMAS_BY_NAME:
            if not isinstance(held, dict):
                raise _wrong(place, "must be a mapping of schemas by name")
            for name, child in held.items():
                _check_form(child, whole, f"{place}.{name}")
        elif keyword in _SCHEMA_LISTS:
            _check_list(held, whole, place)
        else:
            _check_value(keyword, held, place)


def _check_list(held: JsonValue, whole: Mapping[str, JsonValue], place: str) -> None:
    if not isinstance(held, list) or not held:
        raise _wrong(place, "must be a list of schemas")
    for index, child in enumerate(held):
        _check_form(child, whole, f"{place}[{index}]")


def _check_value(keyword: str, held: JsonValue, place: str) -> None:
    match keyword:
        case "type":
            names = held if isinstance(held, list) else [held]
            if not names or any(not isinstance(name, str) or name not in _TYPES for name in names):
                raise _wrong(place, f"{held!r} is no type; there are {', '.join(sorted(_TYPES))}")
        case "required":
            if not isinstance(held, list) or any(not isinstance(name, str) for name in held):
                raise _wrong(place, "must be a list of properties' names")
        case "enum":
            if not isinstance(held, list) or not held:
                raise _wrong(place, "must be a list of values")
        case "uniqueItems" if not isinstance(held, bool):
            raise _wrong(place, "must be true or false")
        case _ if keyword in _NUMBERS:
            if isinstance(held, bool) or not isinstance(held, int | float):
                raise _wrong(place, "must be a number")
            if keyword == "multipleOf" and held <= 0:
                raise _wrong(place, "must be more than 0")
        case _ if keyword in _COUNTS:
            # 1.0 is an integer to JSON Schema.
            if isinstance(held, bool) or not isinstance(held, int | float) or held < 0 or held % 1:
                raise _wrong(place, "must be a whole number of at least 0")
        case _ if keyword in _TEXTS and not isinstance(held, str):
            raise _wrong(place, "must be text")
        case _:
            pass  # annotations, and what later drafts bring


def _check_reference(held: JsonValue, whole: Mapping[str, JsonValue], place: str) -> None:
    if not isinstance(held, str):
        raise _wrong(place, "must be text")
    if held != "#" and not held.startswith("#"):
        raise _wrong(place, f"{held!r} leads out of the schema; refer to '#/$defs/NAME'")
    if held.startswith("#/") and not _leads_somewhere(held, whole):
        raise _wrong(place, f"{held!r} leads to nothing in the schema")


def _leads_somewhere(reference: str, whole: Mapping[str, JsonValue]) -> bool:
    value: JsonValue = dict(whole)
    for part in reference[2:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return "%" in part  # written for an address: left to whoever resolves it
    return True


def _wrong(place: str, message: str) -> ValueError:
    return ValueError(f"{place}: {message}" if place else message)
