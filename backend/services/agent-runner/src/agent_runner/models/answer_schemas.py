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

from agent_runner.bounded_keywords import bounded_keywords
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
    """Raises `InvalidPattern`: what cannot be checked is not accepted."""
    try:
        return compile_pattern(pattern).search(text) is not None
    except UnicodeEncodeError:
        return False


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
        **bounded_keywords(_matches, lambda name, _known: f"{name!r} is not a property of it"),
        "$ref": _counted("$ref"),
        "$dynamicRef": _counted("$dynamicRef"),
    },
)
