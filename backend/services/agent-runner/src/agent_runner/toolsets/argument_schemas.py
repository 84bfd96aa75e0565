"""Checks arguments of tool calls against schemas that people, servers and documents wrote.

The schemas are hostile: patterns run in linear time, nothing is fetched, and what takes too many steps is
refused.
"""

import functools
import json
from collections.abc import Callable, Generator, Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import JsonValue

from agent_runner.bounded_keywords import bounded_keywords
from agent_runner.linear_patterns import InvalidPattern, compile_pattern

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

MAX_STEPS: Final = 100_000
"""Keywords looked at for one call; a schema of a few lines can ask for any number."""
MAX_SHOWN_ERRORS: Final = 5
MAX_SHOWN_CHARACTERS: Final = 300

_steps: ContextVar[list[int]] = ContextVar("steps")
"""How many there were so far; of the check at work."""

_Errors = Generator["ValidationError", None, None]
_Keyword = Callable[[Any, Any, Any, Mapping[str, Any]], Iterable["ValidationError"] | None]


class _TooManySteps(Exception):
    """The check takes too long."""


def problems_with(arguments: Mapping[str, JsonValue], schema: Mapping[str, JsonValue]) -> list[str]:
    """What is wrong with arguments by a schema, in words for a model; empty: nothing."""
    from jsonschema.exceptions import best_match  # pyright: ignore[reportUnknownVariableType] - untyped
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    # With patterns jsonschema would run them itself there, with Python's own engine.
    without = "unevaluatedProperties" if "patternProperties" in json.dumps(schema) else ""
    validator = _validator_class(without)(dict(schema), registry=Registry[Any]())
    token = _steps.set([0])
    try:
        found: list[str] = []
        for error in validator.iter_errors(dict(arguments)):
            found.append(_in_words(cast("ValidationError", best_match([error]))))
            if len(found) == MAX_SHOWN_ERRORS:
                break
        return found
    except (_TooManySteps, RecursionError):
        return ["they take too long to be checked"]
    except Unresolvable as error:
        return [f"the tool's own schema is broken: {_shorten(str(error))}"]
    finally:
        _steps.reset(token)


def _in_words(error: "ValidationError") -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    return f"{place.lstrip('.')}: {_shorten(error.message)}" if place else _shorten(error.message)


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"


# Importing jsonschema takes a tenth of a second, which agents without such tools need not wait for.
@functools.cache
def _validator_class(without: str) -> Any:
    from jsonschema import Draft202012Validator, validators

    known: Mapping[str, _Keyword] = Draft202012Validator.VALIDATORS
    own: dict[str, _Keyword] = {**known, **_BOUNDED}
    checks = {name: _counted(_passed_over if name == without else check) for name, check in own.items()}
    return cast("Any", validators).extend(Draft202012Validator, checks)


def _counted(keyword: _Keyword) -> _Keyword:
    def check(validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]) -> _Errors:
        count = _steps.get()
        count[0] += 1
        if count[0] > MAX_STEPS:
            raise _TooManySteps
        yield from keyword(validator, value, instance, schema) or ()

    return check


def _matches(pattern: object, text: str) -> bool | None:
    """Whether it matches somewhere; None: it is no pattern that can be tried."""
    try:
        return compile_pattern(str(pattern)).search(text) is not None
    except InvalidPattern:
        return None


_BOUNDED: Final = bounded_keywords(
    _matches, lambda name, known: f"{name!r} is not an argument of the tool; there are {sorted(known)}"
)


def _passed_over(validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]) -> None:
    return None
