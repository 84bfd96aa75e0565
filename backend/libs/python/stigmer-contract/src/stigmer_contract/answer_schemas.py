"""The JSON Schemas that answers of people are held to: a bounded part of draft 2020-12.

Both who asks (a model, through a tool) and who answers are untrusted, so a schema is small and shallow, names
no other document, and holds no pattern, which could take for ever to match. What is not in `_KEYWORDS` is
refused rather than passed over: an answer is checked against the whole schema, as it was written.
"""

import json
import math
from collections.abc import Iterator
from typing import Any, Final, cast

from pydantic import JsonValue

MAX_SCHEMA_BYTES: Final = 16 * 1024
MAX_SCHEMA_DEPTH: Final = 6
MAX_FIELDS: Final = 50
MAX_COMPARISONS: Final = 2_000_000
"""Values of the answer times those of the schema: no answer takes longer than about a second."""
MAX_SHOWN_CHARACTERS: Final = 80

Schema = dict[str, JsonValue]

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int, float),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_COUNTS: Final = ("minLength", "maxLength", "minItems", "maxItems")
_NUMBERS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_NOTES: Final = ("title", "description", "default", "examples", "format", "enumNames")
"""Say something to whoever answers, and hold nobody to anything."""
_KEYWORDS: Final = frozenset(
    {"type", "enum", "const", "properties", "required", "additionalProperties", "items", "uniqueItems"}
    | {"anyOf", "oneOf", *_COUNTS, *_NUMBERS, *_NOTES}
)


def check_schema(schema: JsonValue) -> Schema:
    """See that answers can be held to a schema; returns it.

    Raises:
        ValueError: why not, and where in the schema.
    """
    if not isinstance(schema, dict):
        raise ValueError("the schema is not an object")
    size = len(json.dumps(schema, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if size > MAX_SCHEMA_BYTES:
        raise ValueError(f"the schema has {size} bytes, and may have {MAX_SCHEMA_BYTES}")
    _check(schema, "", 1)
    return schema


def find_problem(value: JsonValue, schema: Schema) -> str | None:
    """Why a value does not fit a schema that `check_schema` let pass; None: it does."""
    if _count(value) * _count(schema) > MAX_COMPARISONS:
        return "the answer is too long for the form that it fills in"
    return next(_problems(value, schema, ""), None)


# --- schemas ----------------------------------------------------------------------------------


def _check(schema: JsonValue, path: str, depth: int) -> None:
    where = path or "the schema"
    if not isinstance(schema, dict):
        raise ValueError(f"{where} is not an object")
    if depth > MAX_SCHEMA_DEPTH:
        raise ValueError(f"{where} is nested more than {MAX_SCHEMA_DEPTH} deep")
    unknown = sorted(schema.keys() - _KEYWORDS)
    if unknown:
        raise ValueError(f"{where} uses {unknown[0]!r}, which answers cannot be held to")
    _check_words(schema, where)
    properties = schema.get("properties", {})
    if not isinstance(properties, dict) or len(properties) > MAX_FIELDS:
        raise ValueError(f"{where}: properties is not an object of at most {MAX_FIELDS} fields")
    for name, inner in properties.items():
        _check(inner, f"{path}.{name}" if path else name, depth + 1)
    for keyword in ("items", "additionalProperties"):
        inner = schema.get(keyword, True)
        if not isinstance(inner, bool):
            _check(inner, f"{path}.{keyword}" if path else keyword, depth + 1)
    for keyword in ("anyOf", "oneOf"):
        if keyword not in schema:
            continue
        branches = schema[keyword]
        if not isinstance(branches, list) or not 1 <= len(branches) <= MAX_FIELDS:
            raise ValueError(f"{where}: {keyword} is not a list of at most {MAX_FIELDS} schemas")
        for branch in branches:
            _check(branch, f"{path}.{keyword}" if path else keyword, depth + 1)


def _check_words(schema: Schema, where: str) -> None:
    types = schema.get("type", [])
    for each in types if isinstance(types, list) else [types]:
        if not isinstance(each, str) or each not in _TYPES:
            raise ValueError(f"{where}: {each!r} is not a type of JSON")
    for keyword in _COUNTS:
        count = schema.get(keyword, 0)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError(f"{where}: {keyword} is not a whole number from 0")
    for keyword in _NUMBERS:
        number = schema.get(keyword, 0)
        # A whole number is finite, and may be too large to be asked.
        is_number = isinstance(number, int) or (isinstance(number, float) and math.isfinite(number))
        if isinstance(number, bool) or not is_number:
            raise ValueError(f"{where}: {keyword} is not a number")
    if not isinstance(schema.get("uniqueItems", False), bool):
        raise ValueError(f"{where}: uniqueItems is not true or false")
    for keyword in ("enum", "required"):
        if not isinstance(schema.get(keyword, []), list):
            raise ValueError(f"{where}: {keyword} is not a list")
    if not all(isinstance(name, str) for name in cast("list[object]", schema.get("required", []))):
        raise ValueError(f"{where}: required is not a list of names")


# --- values -----------------------------------------------------------------------------------


def _problems(value: JsonValue, schema: Schema, path: str) -> Iterator[str]:
    where = path or "the answer"
    types = schema.get("type")
    if types is not None:
        wanted = [str(each) for each in (types if isinstance(types, list) else [types])]
        if not any(_is_of_type(value, each) for each in wanted):
            yield f"{where} is not of type {' or '.join(wanted)}"
            return
    if "const" in schema and not _equal(value, schema["const"]):
        yield f"{where} is not {_shown(schema['const'])}"
    choices = schema.get("enum")
    if isinstance(choices, list) and not any(_equal(value, choice) for choice in choices):
        yield f"{where} is none of {', '.join(_shown(choice) for choice in choices)}"
    if isinstance(value, str):
        yield from _out_of_bounds(where, len(value), schema, "Length", "characters")
    elif isinstance(value, list):
        yield from _out_of_bounds(where, len(value), schema, "Items", "items")
        yield from _problems_of_items(value, schema, path)
    elif isinstance(value, dict):
        yield from _problems_of_fields(value, schema, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _problems_of_number(where, value, schema)
    for keyword in ("anyOf", "oneOf"):
        branches = schema.get(keyword)
        if isinstance(branches, list):
            fitting = sum(
                next(_problems(value, cast("Schema", each), path), None) is None for each in branches
            )
            if fitting == 0 or (keyword == "oneOf" and fitting > 1):
                yield f"{where} fits {fitting or 'none'} of the forms that are possible"


def _problems_of_items(items: list[JsonValue], schema: Schema, path: str) -> Iterator[str]:
    inner = schema.get("items", True)
    for place, item in enumerate(items):
        if isinstance(inner, dict):
            yield from _problems(item, inner, f"{path}[{place}]")
        elif inner is False:
            yield f"{path or 'the answer'} may hold no items"
            return
    if schema.get("uniqueItems") is True:
        written = [json.dumps(item, sort_keys=True) for item in items]
        if len(set(written)) < len(written):
            yield f"{path or 'the answer'} holds something twice"


def _problems_of_fields(fields: dict[str, JsonValue], schema: Schema, path: str) -> Iterator[str]:
    properties = cast("dict[str, Any]", schema.get("properties", {}))
    for name in cast("list[str]", schema.get("required", [])):
        if name not in fields:
            yield f"{path + '.' if path else ''}{name} is missing"
    others = schema.get("additionalProperties", True)
    for name, value in fields.items():
        inner = properties.get(name, others)
        inner_path = f"{path}.{name}" if path else name
        if isinstance(inner, dict):
            yield from _problems(value, cast("Schema", inner), inner_path)
        elif inner is False:
            yield f"{inner_path} is not asked for"


def _problems_of_number(where: str, value: float, schema: Schema) -> Iterator[str]:
    bounds = {name: cast("float", schema[name]) for name in _NUMBERS if name in schema}
    if value < bounds.get("minimum", value) or value > bounds.get("maximum", value):
        yield f"{where} is out of bounds: {_shown(value)}"
    if value <= bounds.get("exclusiveMinimum", -math.inf) or value >= bounds.get(
        "exclusiveMaximum", math.inf
    ):
        yield f"{where} is out of bounds: {_shown(value)}"


def _out_of_bounds(where: str, count: int, schema: Schema, what: str, unit: str) -> Iterator[str]:
    least, most = schema.get(f"min{what}", 0), schema.get(f"max{what}", count)
    if count < cast("int", least):
        yield f"{where} has {count} {unit}, and must have {least} at least"
    if count > cast("int", most):
        yield f"{where} has {count} {unit}, and may have {most}"


def _count(value: JsonValue) -> int:
    if isinstance(value, dict):
        return 1 + sum(_count(each) for each in value.values())
    return 1 + sum(_count(each) for each in value) if isinstance(value, list) else 1


def _is_of_type(value: JsonValue, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _equal(one: JsonValue, other: JsonValue) -> bool:
    """As JSON has it: `true` is not 1."""
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True) or (
        isinstance(one, int | float) and isinstance(other, int | float) and one == other
    )


def _shown(value: JsonValue) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"
