"""What the runner's variables carry beside their value, and forms of values that only the runner knows."""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from stigmer_contract.environment import Parser, integer_between

if TYPE_CHECKING:
    from pydantic import SecretStr

_HEADER_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
"""RFC 9110, section 5.1."""
_HEADER_VALUE = re.compile(r"[\t -~]+")


@dataclass(frozen=True)
class Variable:
    """One environment variable, as the reference page shows it."""

    name: str
    description: str
    """One or two sentences, with the unit where there is one."""
    parse: Parser[object]
    default: str | None = None
    """The text that applies where the variable is unset; None: no value."""
    required: bool = False
    is_secret: bool = False
    """Then `NAME_FILE` may name a file that holds the value instead."""


def parse_ports(text: str) -> tuple[int, ...]:
    read_port = integer_between(1, 65535)
    return tuple(read_port(part.strip()) for part in text.split(","))


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


def parse_mounts(text: str) -> tuple[str, ...]:
    """Directories' paths, each with its identity as the contract writes it, as a JSON object; the paths.

    Whoever made the mounts looked at the directories first, and the engine opened them by their paths: in
    between others may have been put there. Whose they are counts for nothing here, since containers count
    users in their own way.

    Raises:
        ValueError: what is mounted there is not what was looked at.
    """
    from stigmer_contract.workspace_directories import Identity, opened

    looked_at: dict[str, str] = json.loads(text)
    for path, identity in looked_at.items():
        expected = Identity.parse(identity)
        try:
            with opened(path) as directory:
                found = directory.identity
        except OSError as error:
            raise ValueError(f"{path!r} cannot be opened: {error.strerror}") from error
        if (found.file_system, found.number) != (expected.file_system, expected.number):
            raise ValueError(f"another directory was put at {path!r} while its container was started")
    return tuple(looked_at)


def parse_secret(text: str) -> "SecretStr":
    from pydantic import SecretStr

    return SecretStr(text)
