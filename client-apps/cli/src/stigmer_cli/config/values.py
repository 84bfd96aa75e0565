"""The forms of settings that only the command line knows; the others are the contract's."""

import re
from datetime import timedelta
from pathlib import Path

from stigmer_contract.environment import Parser, parse_existing_file


class Secret:
    """A text that is shown nowhere; `reveal` is called only where it is handed to who needs it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('********')"

    def __str__(self) -> str:
        return "********"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reveal() == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def capabilities(value: str) -> tuple[str, ...]:
    """Names such as `CHOWN`, separated by commas; `none` for no name."""
    if value == "none":
        return ()
    names = tuple(name.strip() for name in value.split(","))
    wrong = next((name for name in names if not re.fullmatch(r"[A-Z][A-Z_]*", name)), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is no capability such as CHOWN; write names with commas, or none")
    return names


_DURATION = re.compile(r"(?:\d{1,6}[smhd])+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+)([smhd])", re.ASCII)
_DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def size(minimum_bytes: int) -> Parser[int]:
    """A number of bytes, such as `512m` or `4g`; the units are those of Docker and Podman."""

    def parse(value: str) -> int:
        digits, unit = value.rstrip("bkmgBKMG"), value.lower().rstrip("b").lstrip("0123456789")
        valid = digits.isascii() and digits.isdigit() and unit in _SIZE_UNITS
        size_bytes = int(digits) * _SIZE_UNITS[unit] if valid else 0
        if size_bytes < minimum_bytes:
            raise ValueError(
                f"{value!r} is not a size of at least {minimum_bytes // 1024**2}m; write one such as 4g"
            )
        return size_bytes

    return parse


def authorities(value: str) -> Path:
    """A file with certificates in PEM."""
    path = parse_existing_file(value)
    try:
        is_pem = b"-----BEGIN CERTIFICATE-----" in path.read_bytes()
    except OSError as error:
        raise ValueError(f"{value!r} cannot be read: {error.strerror}") from error
    if not is_pem:
        raise ValueError(f"{value!r} holds no certificate; write the authorities' in PEM")
    return path


def duration(value: str) -> timedelta:
    """How long, such as `90s`, `10m` or `1h30m`, as manifests write it; their reader imports 0.2 s more."""
    if not _DURATION.fullmatch(value):
        raise ValueError(f"{value!r} is not a duration; write a number and a unit, such as 90s, 10m or 2h")
    parts = _DURATION_PART.findall(value)
    return timedelta(seconds=sum(int(count) * _DURATION_UNITS[unit] for count, unit in parts))


def written_duration(value: timedelta) -> str:
    """As `duration` reads it, such as `90d` or `1h30m`. Whole seconds."""
    rest, parts = int(value.total_seconds()), list[str]()
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, _DURATION_UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def secret(value: str) -> Secret:
    """Any text, kept out of sight."""
    return Secret(value)


def endpoints(value: str) -> str:
    """Endpoints of models, as JSON in one form."""
    from stigmer_contract.model_names import parse_endpoints, written_endpoints

    return written_endpoints(parse_endpoints(value))
