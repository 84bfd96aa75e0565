"""Reads one setting's text into its value, and says what would be right where it cannot."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

Parser = Callable[[str], object]
"""Reads a setting's text; raises ValueError with what would be right."""


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


def text(value: str) -> str:
    """Any text."""
    return value


def choice(allowed: Sequence[str]) -> Parser:
    """One of a few words."""

    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
        return value

    return parse


def truth(value: str) -> bool:
    """`true` or `false`."""
    if value not in ("true", "false"):
        raise ValueError(f"{value!r} is neither true nor false")
    return value == "true"


def capabilities(value: str) -> tuple[str, ...]:
    """Names such as `CHOWN`, separated by commas; `none` for no name."""
    if value == "none":
        return ()
    names = tuple(name.strip() for name in value.split(","))
    wrong = next((name for name in names if not re.fullmatch(r"[A-Z][A-Z_]*", name)), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is no capability such as CHOWN; write names with commas, or none")
    return names


def whole_number(minimum: int, maximum: int | None = None) -> Parser:
    """A whole number within bounds."""
    expected = f"a whole number from {minimum}" + (f" to {maximum}" if maximum is not None else " up")

    def parse(value: str) -> int:
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"{value!r} is not {expected}")
        number = int(value)
        if number < minimum or (maximum is not None and number > maximum):
            raise ValueError(f"{value!r} is not {expected}")
        return number

    return parse


def number(minimum: float, maximum: float) -> Parser:
    """A number within bounds."""

    def parse(value: str) -> float:
        try:
            parsed = float(value)
        except ValueError:
            parsed = float("nan")
        if not minimum <= parsed <= maximum:  # also refuses NaN
            raise ValueError(f"{value!r} is not a number from {minimum:g} to {maximum:g}")
        return parsed

    return parse


_SIZE_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def size(minimum_bytes: int) -> Parser:
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


def absolute_file(value: str) -> Path:
    """A file that is there; `~` is the home directory."""
    path = Path(value).expanduser().absolute()
    if not path.is_file():
        raise ValueError(f"{value!r} is not a file")
    return path


def authorities(value: str) -> Path:
    """A file with certificates in PEM."""
    path = absolute_file(value)
    try:
        is_pem = b"-----BEGIN CERTIFICATE-----" in path.read_bytes()
    except OSError as error:
        raise ValueError(f"{value!r} cannot be read: {error.strerror}") from error
    if not is_pem:
        raise ValueError(f"{value!r} holds no certificate; write the authorities' in PEM")
    return path


def address(value: str) -> str:
    """`host:port`."""
    try:
        split = urlsplit(f"//{value}")
        valid = bool(split.hostname) and bool(split.port) and split.netloc == value and "@" not in value
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{value!r} is not an address; write host:port, such as localhost:7233")
    return value


def url(value: str) -> str:
    """An http or https URL, without the slash at its end."""
    try:
        split = urlsplit(value)
        valid = split.scheme in ("http", "https") and bool(split.hostname) and split.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{value!r} is not a URL; write http://host:port or https://host")
    return value.rstrip("/")


def address_or_url(value: str) -> str:
    """`host:port` or a URL; always read as a URL."""
    try:
        return url(value if "://" in value else f"http://{address(value)}")
    except ValueError:
        raise ValueError(
            f"{value!r} is not an address; write host:port, http://host:port or https://host"
        ) from None


def secret(value: str) -> Secret:
    """Any text, kept out of sight."""
    return Secret(value)


def endpoints(value: str) -> str:
    """Endpoints of models, as JSON in one form."""
    from stigmer_contract.model_names import parse_endpoints, written_endpoints

    return written_endpoints(parse_endpoints(value))


def read_key(variable: str, environ: Mapping[str, str]) -> str:
    """The key that a variable holds, or the file that `NAME_FILE` names; empty where there is none."""
    text = environ.get(variable, "").strip()
    path = environ.get(f"{variable}_FILE", "").strip()
    if text or not path:
        return text
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
