"""Parts that the manifest's models are made of: the base of them, durations, secrets, variables, names."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

DNS_LABEL: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"  # RFC 1123, section 2.1
_DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Texts come from outside: bounded, and read in one pass, a duration of megabytes costs nothing.
MAX_DURATION_CHARACTERS: Final = 64
_DURATION_PART = re.compile(r"(\d+)([smhd])")
_DURATION = re.compile(r"(?:\d+[smhd])+")


def parse_duration(text: str) -> timedelta:
    """Read `90s`, `10m`, `2h`, `1d` or a sum such as `1h30m`.

    Raises:
        ValueError: the text is not of that form, or is zero.
    """
    if len(text) > MAX_DURATION_CHARACTERS or not _DURATION.fullmatch(text):
        shown = text if len(text) <= MAX_DURATION_CHARACTERS else f"{text[:MAX_DURATION_CHARACTERS]}…"
        raise ValueError(
            f"{shown!r} is not a duration; write a number and a unit, such as 90s, 10m, 2h or 1d"
        )
    seconds = sum(int(count) * _DURATION_UNITS[unit] for count, unit in _DURATION_PART.findall(text))
    if seconds == 0:
        raise ValueError("a duration must be longer than zero")
    if seconds > timedelta(days=3650).total_seconds():
        raise ValueError(f"{text!r} is longer than ten years")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """The shortest text that `parse_duration` reads back, such as `1h30m`. Whole seconds."""
    rest, parts = int(duration.total_seconds()), list[str]()
    for unit, seconds in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, seconds)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _read_duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError(f"{value!r} is not a duration; write a number and a unit, such as 90s, 10m, 2h or 1d")


Duration: TypeAlias = Annotated[
    timedelta,
    BeforeValidator(_read_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": r"^(\d+[smhd])+$", "examples": ["90s", "10m", "2h"]}, mode="validation"
    ),
]

FOREVER: Final = "forever"


def _read_patience(value: object) -> object:
    if value == FOREVER:
        return value
    try:
        return _read_duration(value)
    except ValueError as error:
        raise ValueError(f"{error}; or `forever`") from error


def _write_patience(value: timedelta | str) -> str:
    return value if isinstance(value, str) else format_duration(value)


Patience: TypeAlias = Annotated[
    timedelta | Literal["forever"],
    BeforeValidator(_read_patience),
    PlainSerializer(_write_patience, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": r"^((\d+[smhd])+|forever)$", "examples": ["30m", "2h", FOREVER]},
        mode="validation",
    ),
]
"""A duration, or `forever`."""

_TextT = TypeVar("_TextT", bound=str)


class ManifestPart(BaseModel):
    """Unknown keys are errors; keys are camelCase; values do not change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


def check_unique(names: Sequence[str]) -> None:
    """Refuse a name that stands there twice."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ValueError(f"names {twice[0]!r} twice")


def unique(names: list[_TextT]) -> list[_TextT]:
    """The names, of which none stands there twice."""
    check_unique(names)
    return names


SECRET_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$"  # noqa: S105 - a form of names
MIN_SECRET_CHARACTERS = 8
"""A shorter secret cannot be masked: it stands in texts by chance."""
MAX_SECRET_CHARACTERS = 32_768
MAX_EXECUTION_SECRETS = 64
MAX_EXECUTION_SECRET_BYTES = 65_536
"""Of all secrets of one execution together, in UTF-8: each of its texts is searched for all of them."""
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,252}")


def _check_secret_name(name: str) -> str:
    if not re.fullmatch(SECRET_NAME_PATTERN, name):
        raise ValueError(
            f"{name!r} is not a secret's name: letters, digits, '_', '.' and '-', at most 253 characters"
        )
    return name


def secrets_excess(count: int, size_bytes: int) -> str | None:
    """Why one execution cannot have so many secrets of this size in all; None: it can."""
    if count > MAX_EXECUTION_SECRETS:
        return f"the agent names {count} secrets; an execution has at most {MAX_EXECUTION_SECRETS}"
    if size_bytes > MAX_EXECUTION_SECRET_BYTES:
        return (
            f"the agent's secrets have {size_bytes} bytes in all; those of an execution have at most "
            f"{MAX_EXECUTION_SECRET_BYTES}"
        )
    return None


def _check_variable_name(name: str) -> str:
    if not _VARIABLE_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a variable's name: letters, digits and '_', not beginning with a digit"
        )
    return name


def _check_variable_value(value: "str | SecretReference") -> "str | SecretReference":
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a variable cannot hold a null byte")
    return value


class SecretReference(ManifestPart):
    """The value is a secret that the server keeps under this name (`stigmer secrets set NAME`)."""

    secret: Annotated[str, AfterValidator(_check_secret_name)] = Field(examples=["GITHUB_TOKEN"])
    """Name of the secret: letters, digits, `_`, `.` and `-`."""


def secrets_among(values: Iterable[str | SecretReference]) -> set[str]:
    """The names of those that are secrets."""
    return {value.secret for value in values if isinstance(value, SecretReference)}


Environment: TypeAlias = dict[
    Annotated[str, AfterValidator(_check_variable_name)],
    Annotated[str | SecretReference, AfterValidator(_check_variable_value)],
]
"""Variables by name; each a text or `{secret: NAME}`."""

RESERVED_NAMES: Final = frozenset(
    {"shell", "files", "wait", "web", "skills", "scripts", "script", "openapi", "client", "mcp", "ask-user"}
)
"""Of toolsets of our own: rules and logs tell by the name whose a tool is."""


def _check_name(name: str) -> str:
    if name in RESERVED_NAMES:
        raise ValueError(f"{name!r} is the name of a built-in toolset; choose another one")
    return name


ToolsetName: TypeAlias = Annotated[str, AfterValidator(_check_name)]
"""Whose a tool is: of a server, or of an API."""
