"""Checks a model's arguments against a tool's schema as its server wrote it.

The schema is hostile: nothing is fetched for it, its patterns run in linear time, and a check that takes too
many steps says so. What cannot be checked is the server's own to refuse.
"""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

from pydantic import JsonValue

from agent_runner.bounded_keywords import bounded_keywords
from agent_runner.linear_patterns import InvalidPattern, compile_pattern

MAX_STEPS: Final = 50_000
"""Keywords that are looked at in one check: some 0.2 s."""
MAX_PROBLEMS: Final = 5
_MESSAGE_CHARACTERS: Final = 300


class _TooManySteps(Exception):
    pass


def find_problems(schema: Mapping[str, JsonValue], arguments: Mapping[str, JsonValue]) -> list[str]:
    """What is wrong with the arguments, in words for a model; empty where nothing is, or nobody can tell."""
    try:
        validator = _validator(json.dumps(schema, sort_keys=True))
        if validator is None:
            return []
        found = list[str]()
        for error in validator(dict(arguments)):
            found.append(error)
            if len(found) == MAX_PROBLEMS:
                break
        return found
    except (_TooManySteps, RecursionError):
        return []


@functools.lru_cache(maxsize=256)
def _validator(schema_text: str) -> Callable[[Any], Iterator[str]] | None:
    """Errors of a value against the schema; None where that is no schema."""
    from jsonschema.exceptions import SchemaError

    registry: Any = importlib.import_module("referencing").Registry()
    from referencing.exceptions import Unresolvable

    # Its types are partly unknown.
    validators: Any = importlib.import_module("jsonschema.validators")
    schema: Any = json.loads(schema_text)
    steps = _Steps()
    default: Any = validators.Draft202012Validator
    chosen: Any = validators.validator_for(schema, default=default)
    try:
        # With a limit, too: what makes a schema's own check slow is a schema.
        counted: Any = validators.extend(default, steps.counted(default.VALIDATORS))
        steps.begin()
        if next(iter(counted(default.META_SCHEMA).iter_errors(schema)), None) is not None:
            return None
    except (SchemaError, Unresolvable, _TooManySteps, RecursionError):
        return None
    of_schema: Any = validators.extend(chosen, steps.counted(chosen.VALIDATORS))
    validator: Any = of_schema(schema, registry=registry)

    def errors(value: Any) -> Iterator[str]:
        steps.begin()
        try:
            for error in validator.iter_errors(value):
                path = ".".join(str(part) for part in error.absolute_path)
                message = str(error.message)[:_MESSAGE_CHARACTERS]
                yield f"{path}: {message}" if path else message
        except Unresolvable:
            return  # a reference that leads out: the rest is the server's own to check

    return errors


class _Steps:
    """Counts what one check does. A check runs in one thread from its begin to its end."""

    def __init__(self) -> None:
        self._left = MAX_STEPS

    def begin(self) -> None:
        self._left = MAX_STEPS

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise _TooManySteps

    def counted(self, keywords: Mapping[str, Any]) -> dict[str, Any]:
        """The keywords' checks, each of which spends a step; those that could take long on their own anew."""
        return {name: self._wrap(_BOUNDED.get(name, check)) for name, check in keywords.items()}

    def _wrap(self, check: Any) -> Any:
        def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
            self.spend(1 + (len(cast("list[Any]", value)) if isinstance(value, list) else 0))
            return check(validator, value, instance, schema)

        return counted


def _matches(pattern: Any, text: str) -> bool | None:
    """Whether a pattern is found; None where it cannot be used, and so says nothing."""
    try:
        return isinstance(pattern, str) and compile_pattern(pattern).search(text) is not None
    except (InvalidPattern, UnicodeEncodeError):
        return None


_BOUNDED: Final = bounded_keywords(_matches, lambda name, _known: f"there is no argument {name[:80]!r} here")
