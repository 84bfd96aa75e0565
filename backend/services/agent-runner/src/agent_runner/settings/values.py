"""How the text of an environment variable becomes a value. Knows no variable by name."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from pydantic import SecretStr

_HEADER_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
"""RFC 9110, section 5.1."""
_HEADER_VALUE = re.compile(r"[\t -~]+")

Parser = Callable[[str], object]
"""Reads a variable's text; raises ValueError with what would be right."""


@dataclass(frozen=True)
class Variable:
    """One environment variable, as the reference page shows it."""

    name: str
    description: str
    """One or two sentences, with the unit where there is one."""
    parse: Parser
    default: str | None = None
    """The text that applies where the variable is unset; None: no value."""
    required: bool = False
    is_secret: bool = False
    """Then `NAME_FILE` may name a file that holds the value instead."""


def parse_text(text: str) -> str:
    return text


def choice_of(allowed: tuple[str, ...]) -> Parser:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"{text!r} is none of {', '.join(allowed)}")
        return text

    return parse


def integer_between(minimum: int, maximum: int | None = None) -> Parser:
    expected = f"a whole number from {minimum}" + (f" to {maximum}" if maximum is not None else " up")

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"{text!r} is not {expected}") from None
        if number < minimum or (maximum is not None and number > maximum):
            raise ValueError(f"{text!r} is not {expected}")
        return number

    return parse


def number_between(minimum: float, maximum: float) -> Parser:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not minimum <= number <= maximum:  # also refuses NaN
            raise ValueError(f"{text!r} is not a number from {minimum:g} to {maximum:g}")
        return number

    return parse


def parse_boolean(text: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise ValueError(f"{text!r} is none of true, false")


def parse_address(text: str) -> str:
    try:
        split = urlsplit(f"//{text}")
        valid = bool(split.hostname) and split.port is not None and split.netloc == text and "@" not in text
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{text!r} is not an address; write host:port, such as localhost:7233")
    return text


def parse_url(text: str) -> str:
    try:
        split = urlsplit(text)
        valid = split.scheme in ("http", "https") and bool(split.hostname) and (split.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{text!r} is not a URL; write http://host:port or https://host")
    return text.rstrip("/")


def parse_address_or_url(text: str) -> str:
    try:
        return parse_url(text if "://" in text else f"http://{parse_address(text)}")
    except ValueError:
        raise ValueError(
            f"{text!r} is not an address; write host:port, http://host:port or https://host"
        ) from None


def parse_existing_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise ValueError(f"{text!r} is not a file")
    return path


def parse_absolute_directory(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ValueError(f"{text!r} is not an absolute path")
    return path


def parse_absolute_paths(text: str) -> tuple[Path, ...]:
    return tuple(parse_absolute_directory(part) for part in text.split(":") if part)


def parse_ports(text: str) -> tuple[int, ...]:
    read_port = integer_between(1, 65535)
    return tuple(int(str(read_port(part.strip()))) for part in text.split(","))


def read_headers(text: str) -> dict[str, str]:
    """HTTP headers as OTLP's exporters take them: `name=value`, separated by commas, URL-encoded.

    Source: OpenTelemetry's protocol exporter specification, "Specifying headers via environment variables".

    Raises:
        ValueError: they are written otherwise. Quotes nothing: they may hold a token.
    """
    headers: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, value = part.partition("=")
        name, value = name.strip(), unquote(value.strip())
        if not (equals and _HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            raise ValueError("the value is no list of headers; write name=value,name=value")
        headers[name.lower()] = value
    return headers


def parse_headers(text: str) -> "SecretStr":
    read_headers(text)
    return parse_secret(text)


def parse_secret(text: str) -> "SecretStr":
    from pydantic import SecretStr

    return SecretStr(text)
