"""Reads and writes a cassette's YAML text. What the fields mean is `format`'s matter."""

import re
from collections.abc import Iterator
from typing import Any, Final, cast

import yaml
from pydantic import ValidationError

from stigmer_contract.cassette.format import Cassette
from stigmer_contract.errors import CassetteError

MAX_TEXT_BYTES: Final = 64 * 1024 * 1024
"""A larger text is refused unread."""

_LINE_WIDTH: Final = 100


def load_cassette(text: str | bytes) -> Cassette:
    """Read a cassette.

    Args:
        text: the YAML text, in UTF-8 if bytes.

    Raises:
        CassetteError: it is not a cassette; names the first place and what would be right.
    """
    content = _decode(text)
    try:
        value = yaml.load(content, Loader=_CassetteLoader)  # noqa: S506 - a safe loader with fewer types
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise CassetteError(error.problem or "this cannot be read as YAML", line=line) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CassetteError("this cannot be read as YAML") from error
    _refuse_aliases(value)
    try:
        # by_name=False: a person writes `toolCalls`; `tool_calls` is no second spelling of it.
        return Cassette.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise _explain(error, content) from error


def dump_cassette(cassette: Cassette) -> str:
    """The cassette as YAML; `load_cassette` reads the same cassette back."""
    value = cassette.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for turn, turn_value in zip(cassette.turns, value["turns"], strict=True):
        for index, result in enumerate((turn.expect and turn.expect.results) or []):
            if result.is_exact:  # a result of null differs from no result
                turn_value["expect"]["results"][index]["result"] = result.result
    return yaml.dump(value, Dumper=_CassetteDumper, sort_keys=False, allow_unicode=True, width=_LINE_WIDTH)


def _decode(text: str | bytes) -> str:
    if len(text) > MAX_TEXT_BYTES:
        raise CassetteError(f"the text is longer than {MAX_TEXT_BYTES // 1024 // 1024} MiB")
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CassetteError("this is not UTF-8 text") from error


def _refuse_aliases(value: object) -> None:
    """An alias makes two places share one object; a few of them can stand for gigabytes."""
    seen: set[int] = set()
    pending: list[object] = [value]
    while pending:
        item: object = pending.pop()
        if not isinstance(item, dict | list):
            continue
        container = cast("dict[object, object] | list[object]", item)
        if id(container) in seen:
            raise CassetteError("aliases (`*name`) are not supported; write the value out")
        seen.add(id(container))
        pending.extend(container.values() if isinstance(container, dict) else container)


def _explain(error: ValidationError, content: str) -> CassetteError:
    first = error.errors(include_url=False)[0]
    kind, context = first["type"], first.get("ctx", {})
    line, field_path = _locate(content, first["loc"], missing=kind == "missing")
    match kind:
        case "missing":
            problem = "is missing"
        case "extra_forbidden":
            problem = "there is no such field here"
        case "value_error":
            problem = str(context["error"])
        case "literal_error":
            problem = f"must be {context['expected']}"
        case _:
            wanted = next((wanted for prefix, wanted in _WANTED.items() if kind.startswith(prefix)), None)
            problem = f"must be {wanted}" if wanted else first["msg"][:1].lower() + first["msg"][1:]
    return CassetteError(problem, line=line, field_path=field_path)


# beginning of the kind of pydantic's error: what the cassette wants there
_WANTED: Final = {
    "string_": "text",
    "list_": "a list",
    "dict_": "a mapping",
    "model_": "a mapping",
    "int_": "a whole number",
    "float_": "a number",
}


def _locate(content: str, location: tuple[str | int, ...], *, missing: bool) -> tuple[int | None, str]:
    """The line nearest to the location, and the location as the person spells it."""
    node: yaml.Node | None = yaml.compose(content, Loader=_CassetteLoader)
    line = node.start_mark.line + 1 if node else None
    path = ""
    for index, part in enumerate(location):
        child = next((place for key, place in _children(node) if key == part), None)
        if child is None and not (missing and index == len(location) - 1):
            continue  # the branch of a union, which pydantic names in between
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
        if child is not None:
            node, line = child
    return line, path


def _children(node: yaml.Node | None) -> Iterator[tuple[str | int, tuple[yaml.Node, int]]]:
    """Key or index, value and line of each."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key.value, (value, key.start_mark.line + 1)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield index, (item, item.start_mark.line + 1)


# --- YAML with JSON's types -------------------------------------------------------------------

_JSON_TYPES: Final = (
    ("null", r"null|~|", "n~\0"),
    ("bool", r"true|false", "tf"),
    ("int", r"-?(0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", "-0123456789"),
)
"""Type, plain text that means it, first characters: no dates, no `yes` and `no`, no octal numbers."""

# YAML 1.1 takes them for line ends: only between double quotes, where they are escaped, do they stay.
_ODD_LINE_ENDS: Final = re.compile("[\r\x85\u2028\u2029]")


class _CassetteLoader(yaml.CSafeLoader):
    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - PyYAML replaces it per class


class _CassetteDumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and quotes what either YAML version would misread."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _ODD_LINE_ENDS.search(text) else "|" if "\n" in text else None
    return dumper.represent_scalar(  # pyright: ignore[reportUnknownMemberType] - untyped in types-pyyaml
        "tag:yaml.org,2002:str", text, style=style
    )


_CassetteDumper.add_representer(str, _represent_text)
for _type, _pattern, _first in _JSON_TYPES:
    for _class in (_CassetteLoader, _CassetteDumper):
        _class.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType] - untyped in types-pyyaml
            f"tag:yaml.org,2002:{_type}",
            re.compile(f"^({_pattern})$"),
            ["" if character == "\0" else character for character in _first],
        )
