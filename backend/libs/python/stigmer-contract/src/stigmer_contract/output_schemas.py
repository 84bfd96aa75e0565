"""The JSON Schema of an agent's final answer: whether it can be one. What it says of a value is the runner's.

`jsonschema` is imported when there is a schema to look at: it takes a tenth of a second.
"""

import functools
import json
import re
from collections.abc import Mapping
from typing import Final, cast

from pydantic import JsonValue

from stigmer_contract.json_schemas import SchemaPath, missing_part, parts_of, place_of

_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_LOOKS_AROUND: Final = re.compile(r"\(\?(?:[=!]|<[=!])|(?<!\\)(?:\\\\)*\\[1-9]|\(\?P=")
"""What a pattern that runs in linear time cannot have (RE2's syntax)."""
_DIALECTS: Final = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2020-12/schema#",
)


def check_output_schema(schema: Mapping[str, JsonValue]) -> None:
    """See that answers can be held to a schema (draft 2020-12).

    Raises:
        ValueError: why not, and where in the schema.
    """
    for path, part in parts_of(schema):
        _check_part(path, part)
    if schema.get("type") != "object":
        raise ValueError("must be a JSON Schema of an object: write `type: object`, with `properties`")
    dialect = schema.get("$schema", _DIALECTS[0])
    if dialect not in _DIALECTS:
        raise ValueError(f"$schema: must be {_DIALECTS[0]}, not {dialect!r}")
    _check_form(json.dumps(schema))


# A manifest is read again with each log that begins with it, and this takes up to half a second.
@functools.lru_cache(maxsize=32)
def _check_form(written: str) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    schema = cast("dict[str, JsonValue]", json.loads(written))
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        message = " ".join(str(error.message).split())[:300]
        raise ValueError(f"{place_of(tuple(error.absolute_path))}{message}") from error
    _check_references(schema)


def _check_part(path: SchemaPath, part: dict[str, JsonValue]) -> None:
    for name in _REFERENCES:
        target = part.get(name)
        if isinstance(target, str) and not target.startswith("#"):
            raise ValueError(
                f"{place_of((*path, name))}{target!r} leads out of the schema; nothing is fetched: write the "
                "definition under $defs, and '#/$defs/NAME'"
            )
    if "$id" in part and isinstance(part["$id"], str) and path:
        raise ValueError(f"{place_of((*path, '$id'))}only the whole schema may have one")
    patterns = [part["pattern"]] if isinstance(part.get("pattern"), str) else []
    if isinstance(by_pattern := part.get("patternProperties"), dict):
        patterns += list(by_pattern)
        if "unevaluatedProperties" in part:
            raise ValueError(
                f"{place_of((*path, 'unevaluatedProperties'))}cannot stand beside patternProperties; write "
                "additionalProperties"
            )
    for pattern in patterns:
        _check_pattern(path, cast("str", pattern))


def _check_pattern(path: SchemaPath, pattern: str) -> None:
    where = place_of((*path, "pattern"))
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{where}{pattern[:100]!r} is no regular expression: {error}") from error
    if _LOOKS_AROUND.search(pattern):
        raise ValueError(
            f"{where}{pattern[:100]!r} looks around or refers back, which a pattern that is matched in "
            "bounded time cannot"
        )


def _check_references(schema: Mapping[str, JsonValue]) -> None:
    """A reference that leads nowhere would be told only when the work is done."""
    parts = list(parts_of(schema))
    names = [part.get(keyword) for _, part in parts for keyword in ("$anchor", "$dynamicAnchor")]
    anchors = frozenset(name for name in names if isinstance(name, str))
    for path, part in parts:
        target = part.get("$ref")
        if isinstance(target, str) and not _leads_somewhere(schema, target, anchors):
            raise ValueError(f"{place_of((*path, '$ref'))}there is nothing at {target!r}")


def _leads_somewhere(schema: Mapping[str, JsonValue], target: str, anchors: frozenset[str]) -> bool:
    if target == "#":
        return True
    if not target.startswith("#/"):
        return target.removeprefix("#") in anchors
    return missing_part(schema, target) is None
