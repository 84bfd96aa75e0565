"""How each program reads its environment: which text holds, what a word or a number looks like, what is said
where it is wrong. Knows no variable by name, and imports nothing that a health probe would wait for.

A variable that is empty counts as unset. Words are taken in any case, so that `INFO` and `True` mean the same
to all programs. Whether what a value points to answers is not looked at.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

LogLevel = Literal["debug", "info", "warning", "error"]
Mode = Literal["local", "cloud"]
WordT = TypeVar("WordT", bound=str)
ValueT = TypeVar("ValueT")

Parser = Callable[[str], ValueT]
"""Reads a text; raises ValueError with what would be right."""


class VariableWrong(Exception):
    """An environment variable has a wrong value, or a needed one is missing."""

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable}: {problem}")
        self.variable = variable
        self.problem = problem


class Environment:
    """The variables of a process. Every error names the variable that it is about."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, name: str) -> str | None:
        """What the variable holds, without white space around it."""
        return self._variables.get(name, "").strip() or None

    def secret_text(self, name: str) -> str | None:
        """What the variable holds, or the file that `NAME_FILE` names.

        Raises:
            VariableWrong: both are set, or the file cannot be read or is empty.
        """
        text, file_variable = self.text(name), f"{name}_FILE"
        path = self.text(file_variable)
        if path is None:
            return text
        if text is not None:
            raise VariableWrong(file_variable, f"is set beside {name}; keep one of them")
        try:
            secret = Path(path).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, ValueError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise VariableWrong(file_variable, f"could not read {path!r}: {reason}") from error
        if not secret:
            raise VariableWrong(file_variable, f"the file {path!r} is empty")
        return secret

    def source_of_secret(self, name: str) -> str:
        """The variable that `secret_text` reads: NAME, or `NAME_FILE`."""
        return name if self.text(f"{name}_FILE") is None else f"{name}_FILE"

    def read(self, name: str, default: str, parse: Parser[ValueT]) -> ValueT:
        """The variable's value; that of `default` where it is unset.

        Raises:
            VariableWrong: the text is not what `parse` reads.
        """
        try:
            return parse(self.text(name) or default)
        except ValueError as error:
            raise VariableWrong(name, str(error)) from error

    def optional(self, name: str, parse: Parser[ValueT]) -> ValueT | None:
        """The variable's value, if it is set.

        Raises:
            VariableWrong: the text is not what `parse` reads.
        """
        return None if self.text(name) is None else self.read(name, "", parse)


def under_present_names(variables: Mapping[str, str], former: Mapping[str, str]) -> dict[str, str]:
    """The variables, those with a name that was given up (the keys of `former`) under the present one.

    Raises:
        VariableWrong: a variable is set under both names, to different values.
    """
    renamed = dict(variables)
    for old, name in former.items():
        text = renamed.pop(old, "").strip()
        if not text:
            continue
        if (present := renamed.get(name, "").strip()) and present != text:
            raise VariableWrong(old, f"is called {name} now, which is set to another value; keep that one")
        renamed[name] = text
    return renamed


def parse_text(text: str) -> str:
    """Any text."""
    return text


def choice_of(allowed: tuple[WordT, ...]) -> Parser[WordT]:
    """One of a few words, which are in lower case."""
    words = {word.lower(): word for word in allowed}

    def parse(text: str) -> WordT:
        if text.lower() not in words:
            raise ValueError(f"{text!r} is none of {', '.join(allowed)}")
        return words[text.lower()]

    return parse


def parse_boolean(text: str) -> bool:
    """`true` or `false`, 1 or 0."""
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise ValueError(f"{text!r} is none of true, false")


def integer_between(minimum: int, maximum: int | None = None, unit: str = "") -> Parser[int]:
    """A whole number, written with ASCII digits."""
    expected = f"a whole number{f' of {unit}' if unit else ''} from {minimum}"
    expected += f" to {maximum}" if maximum is not None else " up"

    def parse(text: str) -> int:
        digits = text.removeprefix("-")
        # Python refuses to read thousands of digits, and no setting has so many.
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
            raise ValueError(f"{text!r} is not {expected}")
        number = int(text)
        if number < minimum or (maximum is not None and number > maximum):
            raise ValueError(f"{text!r} is not {expected}")
        return number

    return parse


def number_between(minimum: float, maximum: float, unit: str = "") -> Parser[float]:
    """A number, with a point where it is no whole one."""
    expected = f"a number{f' of {unit}' if unit else ''} from {minimum:g} to {maximum:g}"

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not minimum <= number <= maximum:  # also refuses NaN
            raise ValueError(f"{text!r} is not {expected}")
        return number

    return parse


def parse_address(text: str) -> str:
    """`host:port`."""
    try:
        split = urlsplit(f"//{text}")
        valid = bool(split.hostname) and bool(split.port) and split.netloc == text and "@" not in text
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{text!r} is not an address; write host:port, such as localhost:7233")
    return text


def parse_url(text: str) -> str:
    """An http or https URL, without the slash at its end."""
    try:
        split = urlsplit(text)
        valid = split.scheme in ("http", "https") and bool(split.hostname) and split.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{text!r} is not a URL; write http://host:port or https://host")
    return text.rstrip("/")


def parse_address_or_url(text: str) -> str:
    """`host:port` or a URL; always read as a URL."""
    try:
        return parse_url(text if "://" in text else f"http://{parse_address(text)}")
    except ValueError:
        raise ValueError(
            f"{text!r} is not an address; write host:port, http://host:port or https://host"
        ) from None


def parse_hosts(text: str) -> tuple[str, ...]:
    """Hosts, or `host:port`, with commas between; `*` is all."""
    return tuple(filter(None, (part.strip().lower() for part in text.split(","))))


def parse_path(text: str) -> Path:
    """An absolute path; `~` is the home directory."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # the home directory of that user is unknown
        path = Path(text)
    if not path.is_absolute() or "\0" in text:
        raise ValueError(f"{text!r} is not an absolute path")
    return path


def parse_paths(text: str) -> tuple[Path, ...]:
    """Absolute paths with colons between, as in PATH."""
    return tuple(parse_path(part) for part in text.split(":") if part)


def parse_existing_file(text: str) -> Path:
    """A file that is there; `~` is the home directory."""
    try:
        path = Path(text).expanduser().absolute()
        exists = path.is_file()
    except (OSError, RuntimeError, ValueError):  # such as a name that is too long
        raise ValueError(f"{text!r} is not a file") from None
    if not exists:
        raise ValueError(f"{text!r} is not a file")
    return path
