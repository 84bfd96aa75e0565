"""Checks JSON Schemas that people and servers write: their form, their bounds, where they refer to.

What a schema says of a value is decided elsewhere. Draft 2020-12, and of the earlier ones what is the same.
"""

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from pydantic import JsonValue

MAX_SCHEMA_NODES: Final = 5_000
"""Objects, lists and values in one schema."""
MAX_SCHEMA_DEPTH: Final = 32

SchemaPath: TypeAlias = tuple[str | int, ...]

_TYPES: Final = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
SCHEMA_KEYWORDS: Final = frozenset(
    {
        "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then",
        "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip
"""Keywords that hold a schema."""
SCHEMAS_BY_NAME: Final = frozenset(
    {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}
)
"""Those that hold schemas by name."""
SCHEMA_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
"""Those that hold a list of schemas."""
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
    for _ in parts_of(schema):
        pass  # for its bounds
    _check_form(dict(schema), schema, "")


def parts_of(schema: Mapping[str, JsonValue]) -> Iterator[tuple[SchemaPath, dict[str, JsonValue]]]:
    """The objects in a schema, each with where it stands.

    Raises:
        ValueError: it is too large or too deep.
    """
    pending: list[tuple[SchemaPath, JsonValue]] = [((), dict(schema))]
    count = 0
    while pending:
        path, value = pending.pop()
        count += 1
        if count > MAX_SCHEMA_NODES:
            raise ValueError(f"the schema has more than {MAX_SCHEMA_NODES} parts")
        if len(path) >= MAX_SCHEMA_DEPTH:
            raise ValueError(f"{place_of(path[:4])}the schema is nested more than {MAX_SCHEMA_DEPTH} deep")
        if isinstance(value, dict):
            yield path, value
            pending += [((*path, name), child) for name, child in value.items()]
        elif isinstance(value, list):
            pending += [((*path, place), child) for place, child in enumerate(value)]


def place_of(path: SchemaPath) -> str:
    """Where something stands, as it comes before what is said of it; empty for the whole."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return f"{text}: " if text else ""


def missing_part(schema: Mapping[str, JsonValue], reference: str) -> str | None:
    """The first part of a reference (`#/$defs/NAME`) that is not in the schema; None: all of it is."""
    found: JsonValue = dict(schema)
    for part in reference.removeprefix("#/").split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isascii() and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        else:
            return part
    return None


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
        elif keyword in SCHEMA_KEYWORDS:
            _check_form(held, whole, place)
        elif keyword in SCHEMAS_BY_NAME:
            if not isinstance(held, dict):
                raise _wrong(place, "must be a mapping of schemas by name")
            for name, child in held.items():
                _check_form(child, whole, f"{place}.{name}")
        elif keyword in SCHEMA_LISTS:
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
    missing = missing_part(whole, held) if held.startswith("#/") else None
    if missing is not None and "%" not in missing:  # written for an address: left to whoever resolves it
        raise _wrong(place, f"{held!r} leads to nothing in the schema")


def _wrong(place: str, message: str) -> ValueError:
    return ValueError(f"{place}: {message}" if place else message)
