"""Single values of YAML as JSON knows them. What the two YAML versions read differently is refused."""

import math
import re

import yaml
from pydantic import JsonValue

from stigmer_contract.yaml_problems import YamlProblem, position_of

CORE_TAG = "tag:yaml.org,2002:"
# Those that PyYAML's reader refuses (YAML 1.1, section 4.1), for which it has an error without a place.
UNUSABLE_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_PREFIXED = re.compile(r"[-+]?0(x[0-9a-fA-F_]+|b[01_]+)")
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
_LARGEST_INTEGER = 2**63


def read_scalar(node: yaml.ScalarNode) -> JsonValue:
    """The value of a scalar.

    Raises:
        YamlProblem: it has none in JSON, or YAML versions disagree about it.
    """
    text = node.value
    if UNUSABLE_CHARACTER.search(text):
        raise YamlProblem(
            position_of(node.start_mark), "the text holds a control character that cannot be used"
        )
    match node.tag.removeprefix(CORE_TAG):
        case "str" | "value":
            return _read_float(node) if not node.style and _EXPONENT.fullmatch(text) else text
        case "null":
            return None
        case "bool" if text.lower() in {"true", "false"}:
            return text.lower() == "true"
        case "int" if _DECIMAL.fullmatch(text) or _PREFIXED.fullmatch(text):
            return _read_integer(node)
        case "float":
            return _read_float(node)
        case "bool" | "int" | "timestamp" as kind:
            meaning = {"bool": "a truth value", "int": "a number in base 8 or 60", "timestamp": "a date"}[
                kind
            ]
            hint = f'for text put it in quotes: "{_shorten(text)}"'
            if kind == "bool":
                hint += f"; else write {'true' if text.lower() in {'yes', 'on', 'y'} else 'false'}"
            raise YamlProblem(
                position_of(node.start_mark), f"YAML may read `{_shorten(text)}` as {meaning}", hint
            )
        case tag:
            raise YamlProblem(
                position_of(node.start_mark),
                f"the tag `{_shorten(tag)}` is not supported",
                "leave the tag out",
            )


def _read_integer(node: yaml.ScalarNode) -> int:
    digits = node.value.replace("_", "")
    if len(digits) <= 80:
        number = int(digits, 0)
        if abs(number) < _LARGEST_INTEGER:
            return number
    raise YamlProblem(position_of(node.start_mark), "the number is too large", "for text put it in quotes")


def _read_float(node: yaml.ScalarNode) -> float:
    text = node.value.replace("_", "")
    try:
        number = float(text)
    except ValueError:  # .inf, .nan, base 60
        number = math.nan
    if not math.isfinite(number):
        raise YamlProblem(
            position_of(node.start_mark),
            f"{_shorten(node.value)!r} is not a number that can be used",
            f'for text put it in quotes: "{_shorten(node.value)}"',
        )
    return number


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
