"""JSON Schema's keywords that could take for ever as `jsonschema` (4.26) checks them, in bounded time.

Patterns are tried by whoever gives a way to, in linear time; items are compared as texts and not each with
each. A schema may be anything: what is none of the shape that a keyword needs, says nothing.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import JsonValue

if TYPE_CHECKING:  # importing it takes a tenth of a second, which agents without schemas need not wait for
    from jsonschema.exceptions import ValidationError

Matches = Callable[[Any, str], bool | None]
"""Whether a pattern is found in a text; None where it cannot be tried, and so nothing follows from it."""
Keyword = Callable[[Any, Any, Any, Mapping[str, Any]], "Iterator[ValidationError]"]
"""`validator, value of the keyword, instance, schema`, as in `jsonschema.validators.extend`."""

_SHOWN_CHARACTERS: Final = 80


def bounded_keywords(
    matches: Matches, describe_unknown: Callable[[str, Mapping[str, Any]], str]
) -> dict[str, Keyword]:
    """The keywords by name; `describe_unknown` words that there is no such name beside the known ones."""

    def pattern(_validator: Any, value: Any, instance: Any, _schema: Any) -> "Iterator[ValidationError]":
        if isinstance(instance, str) and matches(value, instance) is False:
            yield _error(f"{_shown(instance)} does not match {_shown(str(value))}")

    def pattern_properties(
        validator: Any, value: Any, instance: Any, _schema: Any
    ) -> "Iterator[ValidationError]":
        for each, inner in _object(value).items():
            for name, held in _object(instance).items():
                if matches(each, name):
                    yield from validator.descend(held, inner, path=name, schema_path=each)

    def additional_properties(
        validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]
    ) -> "Iterator[ValidationError]":
        known, patterns = _object(schema.get("properties")), _object(schema.get("patternProperties"))
        for name, held in _object(instance).items():
            # A pattern that cannot be tried may be meant for it.
            if name in known or any(matches(each, name) is not False for each in patterns):
                continue
            if value is False:
                yield _error(describe_unknown(name, known))
            elif isinstance(value, dict):
                yield from validator.descend(held, value, path=name)

    return {
        "pattern": pattern,
        "patternProperties": pattern_properties,
        "additionalProperties": additional_properties,
        "uniqueItems": _unique_items,
    }


def _unique_items(
    _validator: Any, value: Any, instance: Any, _schema: Mapping[str, Any]
) -> "Iterator[ValidationError]":
    if value is not True or not isinstance(instance, list):
        return
    # In a text, in which 1 and 1.0 are the same and true is not 1.
    texts = [json.dumps(_plain(item), sort_keys=True) for item in cast("list[JsonValue]", instance)]
    if len(set(texts)) < len(texts):
        yield _error("it holds the same item twice")


def _plain(value: JsonValue) -> JsonValue:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _object(value: object) -> dict[str, Any]:
    """The value where it is an object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")


def _error(message: str) -> "ValidationError":
    from jsonschema.exceptions import ValidationError

    return ValidationError(message)
