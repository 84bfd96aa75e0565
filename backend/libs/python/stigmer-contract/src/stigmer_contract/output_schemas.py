"""The JSON Schema of an agent's final answer: whether it can be one. What it says of a value is the runner's.

`jsonschema` is imported when there is a schema to look at: it takes a tenth of a second.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, cast

from pydantic import JsonValue

MAX_SCHEMA_PARTS: Final = 5_000
"""Objects, lists and values in one schema."""
MAX_SCHEMA_DEPTH: Final = 32
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_LOOKS_AROUND: Final = re.compile(r"\(\?(?:[=!]|<[=!])|(?<!\\)(?:\\\\)*\\[1-9]|\(\?P=")
"""What a pattern that runs in linear time cannot have (RE2's syntax)."""
_DIALECTS: Final = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2020-12/schema#",
)
_Path = tuple[str | int, ...]


def check_output_schema(schema: Mapping[str, JsonValue]) -> None:
    """See that answers can be held to a schema (draft 2020-12).

    Raises:
        ValueError: why not, and where in the schema.
    """
    for path, part in _parts(dict(schema)):
        _check_part(path, part)
    if schema.get("type") != "object":
        raise ValueError("must be a JSON Schema of an object: write `type: object`, with `properties`")
    dialect = schema.get("$schema", _DIALECTS[0])
    if dialect not in _DIALECTS:
        raise ValueError(f"$schema: must be {_DIALECTS[0]}, not {dialect!r}")
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(dict(schema))
    except SchemaError as error:
        message = " ".join(str(error.message).split())[:300]
        raise ValueError(f"{_place(tuple(error.absolute_path))}{message}") from error
    _check_references(schema)


def _parts(schema: JsonValue) -> Iterator[tuple[_Path, dict[str, JsonValue]]]:
    """The objects in a schema, each with where it stands.

    Raises:
        ValueError: it is too large or too deep.
    """
    pending: list[tuple[_Path, JsonValue]] = [((), schema)]
    count = 0
    while pending:
        path, value = pending.pop()
        count += 1
        if count > MAX_SCHEMA_PARTS:
            raise ValueError(f"the schema has more than {MAX_SCHEMA_PARTS} parts")
        if len(path) > MAX_SCHEMA_DEPTH:
            raise ValueError(f"{_place(path[:4])}the schema is nested more than {MAX_SCHEMA_DEPTH} deep")
        if isinstance(value, dict):
            yield path, value
            pending += [((*path, name), child) for name, child in value.items()]
        elif isinstance(value, list):
            pending += [((*path, place), child) for place, child in enumerate(value)]


def _check_part(path: _Path, part: dict[str, JsonValue]) -> None:
    for name in _REFERENCES:
        target = part.get(name)
        if isinstance(target, str) and not target.startswith("#"):
            raise ValueError(
                f"{_place((*path, name))}{target!r} leads out of the schema; nothing is fetched: write the "
                "definition under $defs, and '#/$defs/NAME'"
            )
    if "$id" in part and isinstance(part["$id"], str) and path:
        raise ValueError(f"{_place((*path, '$id'))}only the whole schema may have one")
    patterns = [part["pattern"]] if isinstance(part.get("pattern"), str) else []
    if isinstance(by_pattern := part.get("patternProperties"), dict):
        patterns += list(by_pattern)
        if "unevaluatedProperties" in part:
            raise ValueError(
                f"{_place((*path, 'unevaluatedProperties'))}cannot stand beside patternProperties; write "
                "additionalProperties"
            )
    for pattern in patterns:
        _check_pattern(path, cast("str", pattern))


def _check_pattern(path: _Path, pattern: str) -> None:
    where = _place((*path, "pattern"))
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
    parts = list(_parts(dict(schema)))
    names = [part.get(keyword) for _, part in parts for keyword in ("$anchor", "$dynamicAnchor")]
    anchors = frozenset(name for name in names if isinstance(name, str))
    for path, part in parts:
        target = part.get("$ref")
        if isinstance(target, str) and not _leads_somewhere(schema, target, anchors):
            raise ValueError(f"{_place((*path, '$ref'))}there is nothing at {target!r}")


def _leads_somewhere(schema: Mapping[str, JsonValue], target: str, anchors: frozenset[str]) -> bool:
    if target == "#":
        return True
    if not target.startswith("#/"):
        return target.removeprefix("#") in anchors
    found: object = schema
    for piece in target.removeprefix("#/").split("/"):
        name = piece.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = cast("Mapping[str, object]", found)[name]
        elif (
            isinstance(found, list)
            and name.isascii()
            and name.isdigit()
            and int(name) < len(cast("list[object]", found))
        ):
            found = cast("list[object]", found)[int(name)]
        else:
            return False
    return True


def _place(path: _Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return f"{text}: " if text else ""
