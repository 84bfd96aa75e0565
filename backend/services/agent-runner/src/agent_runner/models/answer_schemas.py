"""Holds an answer to the JSON Schema that the manifest gives for it, as it is written there.

Bounded, whatever schema and answer say: nothing is fetched, patterns run in linear time, and references
are counted.
"""

import contextvars
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import jsonschema.validators
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from pydantic import JsonValue
from referencing import Registry
from referencing.exceptions import Unresolvable

from agent_runner.linear_patterns import InvalidPattern, compile_pattern

MAX_ANSWER_BYTES: Final = 1 << 20
MAX_REFERENCES: Final = 20_000
"""How often references are followed for one answer: each may lead to several, and so to any number."""
MAX_SHOWN_PROBLEMS: Final = 10
MAX_PROBLEM_CHARACTERS: Final = 300

_NOTHING_ELSE: Final[Any] = cast("Any", Registry)()
"""Where schemas are looked for that are not in the schema."""
_references: contextvars.ContextVar[Iterator[int]] = contextvars.ContextVar("references followed")


class _TooManyReferences(Exception):
    """The schema's references lead to more and more of them."""


def find_problems(schema: Mapping[str, JsonValue], answer: JsonValue) -> list[str]:
    """What the schema does not accept about an answer, each in one line; empty: it accepts it."""
    try:
        text = json.dumps(answer, allow_nan=False)
    except (ValueError, RecursionError):
        return ["it holds NaN or Infinity, which JSON has no number for, or is nested too deep"]
    if len(text) > MAX_ANSWER_BYTES:
        return [f"it has {len(text)} bytes as JSON, and may have {MAX_ANSWER_BYTES}"]
    token = _references.set(iter(range(MAX_REFERENCES)))
    try:
        validator = _Validator(dict(schema), registry=_NOTHING_ELSE)
        found = cast("Iterator[ValidationError]", validator.iter_errors(answer))
        return [_described(error) for error in itertools.islice(found, MAX_SHOWN_PROBLEMS)]
    except (_TooManyReferences, RecursionError):
        return ["the schema's references lead on without end for it"]
    except (InvalidPattern, Unresolvable, OverflowError, ArithmeticError) as error:
        return [f"it could not be checked: {type(error).__name__}: {error}"[:MAX_PROBLEM_CHARACTERS]]
    finally:
        _references.reset(token)


def _described(error: ValidationError) -> str:
    message = " ".join(str(error.message).split())
    if len(message) > MAX_PROBLEM_CHARACTERS:
        # What is wrong stands at the end, behind the value.
        message = f"{message[: MAX_PROBLEM_CHARACTERS // 3]}…{message[-MAX_PROBLEM_CHARACTERS // 2 :]}"
    return f"{error.json_path}: {message}"


# --- keywords, in the place of jsonschema's (4.26) ---------------------------------------------


def _matches(pattern: str, text: str) -> bool:
    try:
        return compile_pattern(pattern).search(text) is not None
    except UnicodeEncodeError:
        return False


def _pattern(_validator: Any, pattern: str, instance: object, _schema: object) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, object], instance: object, _schema: object
) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    for pattern, inner in patterns.items():
        for name, value in cast("dict[str, object]", instance).items():
            if _matches(pattern, name):
                yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, inner: object, instance: object, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, value in cast("dict[str, object]", instance).items():
        if name in known or any(_matches(pattern, name) for pattern in patterns):
            continue
        if inner is False:
            yield ValidationError(f"{name!r} is not a property of it")
        elif isinstance(inner, dict):
            yield from validator.descend(value, inner, path=name)


def _unique_items(
    _validator: Any, is_wanted: object, instance: object, _schema: object
) -> Iterator[ValidationError]:
    if is_wanted is not True or not isinstance(instance, list):
        return
    # As texts, in which 1 and 1.0 are the same and true is not 1: comparing each with each takes for ever.
    texts = [json.dumps(_plain(item), sort_keys=True) for item in cast("list[JsonValue]", instance)]
    if len(set(texts)) < len(texts):
        yield ValidationError("it holds the same item twice")


def _plain(value: JsonValue) -> JsonValue:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _counted(keyword: str) -> Any:
    follow = Draft202012Validator.VALIDATORS[keyword]

    def reference(validator: Any, target: str, instance: object, schema: object) -> Iterator[ValidationError]:
        if next(_references.get(), None) is None:
            raise _TooManyReferences
        yield from follow(validator, target, instance, cast("Any", schema)) or ()

    return reference


_Validator: Final[Any] = cast("Any", jsonschema.validators).extend(
    Draft202012Validator,
    {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
        "$ref": _counted("$ref"),
        "$dynamicRef": _counted("$dynamicRef"),
    },
)
