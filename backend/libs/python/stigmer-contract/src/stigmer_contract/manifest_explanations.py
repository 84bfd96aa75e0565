"""Turns pydantic's errors about a manifest into sentences for the person who wrote it.

Knows the manifest's models, not where things stand in the text.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import JsonValue
from pydantic_core import ErrorDetails

from stigmer_contract.manifest_fields import (
    describe_field,
    field_choices,
    field_names,
    find_fields,
    fold_name,
)
from stigmer_contract.yaml_problems import FieldPath

_MISSING = "is missing"
_UNION_BRANCHES = frozenset({"SecretReference", "str"})
_KEY_BRANCH = "[key]"
"""How pydantic says that a mapping's key is wrong, not its value."""


@dataclass(frozen=True)
class Explanation:
    """One problem in plain words."""

    path: FieldPath
    """The field in the document; for a missing one the path that it should have."""
    message: str
    hint: str | None = None
    at_key: bool = False
    """Whether the key is wrong, not the value."""
    meant: FieldPath | None = None
    """For an unknown field the one that the person seems to have meant."""


def explain_errors(errors: Iterable[ErrorDetails], document: JsonValue) -> list[Explanation]:
    """One explanation for each thing that is wrong; several errors may tell of the same thing."""
    explanations: dict[tuple[FieldPath, bool], Explanation] = {}
    for error in errors:
        path, branch = _split_location(error["loc"], document, error["type"] == "missing")
        value = _value_at(document, path)
        if branch == "str" and isinstance(value, dict):
            continue  # a mapping was meant to be the other branch of `text | {secret: NAME}`
        explanation = _explain(error, path, branch, value)
        explanations.setdefault((explanation.path, explanation.at_key), explanation)
    # Who wrote `insructions` need not be told that `instructions` is missing.
    misspelled = {explanation.meant for explanation in explanations.values()}
    return [
        explanation
        for explanation in explanations.values()
        if explanation.message != _MISSING or explanation.path not in misspelled
    ]


def _split_location(
    location: tuple[int | str, ...], document: JsonValue, missing: bool
) -> tuple[FieldPath, str | None]:
    """The path in the document, and the branch of a union that pydantic names in between."""
    path: FieldPath = ()
    branch: str | None = None
    value = document
    for index, part in enumerate(location):
        child = _child(value, part)
        if child is not None:
            (value,) = child
        elif missing and index == len(location) - 1:
            return (*path, part), branch
        else:
            branch = str(part)
            continue
        path = (*path, part)
    return path, branch


def _explain(error: ErrorDetails, path: FieldPath, branch: str | None, value: JsonValue) -> Explanation:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        return _explain_missing(path)
    if kind == "extra_forbidden":
        return _explain_unknown(path)
    if branch in _UNION_BRANCHES and kind != "value_error":
        return Explanation(path, "must be text, or a mapping such as {secret: NAME}", _quoting_hint(value))
    if kind == "value_error" and value is None:
        return Explanation(path, "has no value", describe_field(path))
    if kind == "value_error":
        return Explanation(path, str(context["error"]), at_key=branch == _KEY_BRANCH)
    if kind == "literal_error":
        return _explain_choice(path, value)
    if kind == "string_pattern_mismatch":
        return _explain_pattern(path, str(value), str(context["pattern"]))
    if kind in _LIMIT_MESSAGES:
        wording, key = _LIMIT_MESSAGES[kind]
        limit = context.get(key)
        return Explanation(path, f"must be {wording.format(_number(limit))}, not {_show(value)}")
    if kind in {"too_short", "string_too_short"}:
        return Explanation(path, "must not be empty", describe_field(path))
    if kind == "string_too_long":
        return Explanation(path, f"must be at most {context['max_length']} characters long")
    wanted = next((wanted for prefix, wanted in _WANTED.items() if kind.startswith(prefix)), None)
    if wanted is None:
        return Explanation(path, error["msg"])
    return _explain_type(path, wanted, value)


# kind of pydantic's error: what our sentence says, and where its context holds the limit
_LIMIT_MESSAGES = {
    "greater_than": ("more than {}", "gt"),
    "greater_than_equal": ("at least {}", "ge"),
    "less_than": ("less than {}", "lt"),
    "less_than_equal": ("at most {}", "le"),
}

# beginning of the kind of pydantic's error: what the manifest wants there
_WANTED = {
    "string_": "text",
    "list_": "a list",
    "dict_": "a mapping",
    "model_": "a mapping",
    "int_": "a whole number",
    "float_": "a number",
    "decimal_": "a number",
    "finite_number": "a number",
    "invalid_key": "text",
}


def _explain_type(path: FieldPath, wanted: str, value: JsonValue) -> Explanation:
    if not path:
        return Explanation(
            path, f"a manifest must be a mapping, not {_show(value)}", "begin with `apiVersion:`"
        )
    if value is None:
        return Explanation(path, f"has no value; it must be {wanted}", describe_field(path))
    hint = None
    match wanted:
        case "text":
            hint = _quoting_hint(value)
        case "a list" if isinstance(value, str | int | float):
            hint = f"write `{path[-1]}: [{value}]`"
        case "a mapping":
            keys = ", ".join(field_names(path))
            hint = f"its fields: {keys}" if keys else "write `key: value`"
        case _ if isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value):
            hint = "leave the quotes out"
        case _:
            pass
    return Explanation(path, f"must be {wanted}, not {_show(value)}", hint)


def _quoting_hint(value: JsonValue) -> str | None:
    if isinstance(value, bool | int | float):
        return f'put it in quotes: "{_show(value)}"'
    return None


def _explain_missing(path: FieldPath) -> Explanation:
    name = path[-1]
    description = describe_field(path)
    constant = field_choices(path)
    add = f"add `{name}: {constant[0]}`" if len(constant) == 1 else f"add `{name}`"
    return Explanation(path, _MISSING, f"{add}: {description}" if description else add, at_key=True)


def _explain_unknown(path: FieldPath) -> Explanation:
    name, known = str(path[-1]), field_names(path[:-1])
    message = f"there is no field {name!r} here"
    folded = {fold_name(field): field for field in known}
    near = difflib.get_close_matches(fold_name(name), list(folded), n=1, cutoff=0.7)
    elsewhere = [place for place in find_fields(fold_name(name)) if place[:-1] != path[:-1]]
    if near:
        meant = (*path[:-1], folded[near[0]])
        hint = f"did you mean `{meant[-1]}`?"
    elif elsewhere:
        meant = elsewhere[0]
        hint = f"it belongs under `{'.'.join(meant[:-1])}`" if len(meant) > 1 else "it belongs to the top"
    else:
        meant, hint = None, f"fields here: {', '.join(known)}"
    return Explanation(path, message, hint, at_key=True, meant=meant)


def _explain_choice(path: FieldPath, value: JsonValue) -> Explanation:
    choices = field_choices(path)
    wanted = choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    near = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    hint = f"did you mean `{near[0]}`?" if near and len(choices) > 1 else None
    if value is None:
        return Explanation(path, f"has no value; it must be {wanted}", hint)
    return Explanation(path, f"must be {wanted}, not {_show(value)}", hint)


def _explain_pattern(path: FieldPath, value: str, pattern: str) -> Explanation:
    if pattern.startswith("^https"):
        return Explanation(path, f"must begin with http:// or https://, not {_show(value)}")
    slug = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:63].strip("-")
    return Explanation(
        path,
        f"{_show(value)} is not a name: lower-case letters, digits and hyphens, at most 63 characters",
        f"did you mean `{slug}`?" if slug else None,
    )


def _child(value: JsonValue, part: str | int) -> tuple[JsonValue] | None:
    """The value under a key or an index, in a tuple; None where there is none."""
    if isinstance(value, dict) and part in value:
        return (value[str(part)],)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return (value[part],)
    return None


def _value_at(value: JsonValue, path: FieldPath) -> JsonValue:
    for part in path:
        (value,) = _child(value, part) or (None,)
    return value


def _number(limit: object) -> str:
    return f"{float(str(limit)):g}"


def _show(value: JsonValue) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            return repr(value if len(value) <= 60 else value[:59] + "…")
        case list():
            return "a list"
        case _:
            return "a mapping"
