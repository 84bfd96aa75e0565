"""Foreign files as values that know where they stand, and what is said of what nobody takes from them.

JSON may have comments and commas too many, as the clients that write it allow.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from stigmer_contract.yaml_document import YamlDocument, decode_text, read_documents
from stigmer_contract.yaml_problems import FieldPath, Position, YamlProblem

NO_COUNTERPART: Final = "was not carried over: it has no counterpart"
_MAX_DEPTH: Final = 64
# What has no end reaches to that of the text, so that no piece is begun twice: linear.
_PIECES: Final = re.compile(
    r'"(?:[^"\\]|\\.|\\\Z)*(?:"|\Z)|//[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/|\Z)|.', re.DOTALL
)


@dataclass(frozen=True)
class Remark:
    """What could not be carried over as it is, and where it stands."""

    source: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}"
        return f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


@dataclass
class ForeignDocument:
    """One file: its value, where parts of it stand, and the remarks on it."""

    source: str
    value: JsonValue
    lines: Mapping[FieldPath, int] = field(default_factory=dict[FieldPath, int])
    remarks: list[Remark] = field(default_factory=list[Remark])

    def remark(self, path: FieldPath, message: str) -> None:
        """Say something of a part."""
        at = path
        while at and at not in self.lines:
            at = at[:-1]
        name = ""
        for part in path:
            name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
        self.remarks.append(Remark(self.source, self.lines.get(at, 1), name, message))

    def fields(self, *path: str | int) -> "Fields | None":
        """The mapping at a path; None where there is none, which is said where something else is there."""
        found = self.value
        for part in path:
            if isinstance(found, dict) and isinstance(part, str):
                found = found.get(part)
            elif isinstance(found, list) and isinstance(part, int) and part < len(found):
                found = found[part]
            else:
                return None
        if isinstance(found, dict):
            return Fields(self, path, found)
        if found is not None:
            self.remark(path, "was not carried over: it is no mapping")
        return None


class Fields:
    """A mapping of a foreign file, each of whose keys is taken, or told at the end."""

    def __init__(self, document: ForeignDocument, path: FieldPath, value: Mapping[str, JsonValue]) -> None:
        """`path` is where it stands."""
        self.document = document
        self.path = path
        self.value = value
        self._taken = set[str]()

    def has(self, key: str) -> bool:
        """Whether there is something."""
        return self.value.get(key) is not None

    def take(self, key: str) -> JsonValue:
        """What is there, whatever it is."""
        self._taken.add(key)
        return self.value.get(key)

    def text(self, *keys: str) -> str | None:
        """The text under the first of the keys that is there."""
        for key in keys:
            found = self.take(key)
            if isinstance(found, str):
                return found
            if found is not None:
                self.remark(key, "was not carried over: it is no text")
        return None

    def number(self, key: str) -> int | float | None:
        """A number."""
        found = self.take(key)
        if found is None or (isinstance(found, int | float) and not isinstance(found, bool)):
            return found
        self.remark(key, "was not carried over: it is no number")
        return None

    def texts(self, key: str) -> list[str] | None:
        """A list of texts."""
        found = self.take(key)
        if found is None:
            return None
        if isinstance(found, list) and all(isinstance(each, str) for each in found):
            return [str(each) for each in found]
        self.remark(key, "was not carried over: it is no list of texts")
        return None

    def inner(self, key: str) -> "Fields | None":
        """The mapping under a key."""
        self._taken.add(key)
        return self.document.fields(*self.path, key)

    def items(self, key: str) -> "Sequence[Fields]":
        """The mappings of a list under a key."""
        found = self.take(key)
        if found is None:
            return ()
        if not isinstance(found, list):
            self.remark(key, "was not carried over: it is no list")
            return ()
        inner = (self.document.fields(*self.path, key, place) for place in range(len(found)))
        return [each for each in inner if each is not None]

    def remark(self, key: str, message: str) -> None:
        """Say something of what stands under a key; of the mapping itself where that is empty."""
        self.document.remark((*self.path, key) if key else self.path, message)

    def tell_rest(self, reasons: Mapping[str, str], otherwise: str = NO_COUNTERPART) -> None:
        """Say of each key that nobody took why it was not carried over."""
        for key in self.value:
            if key not in self._taken:
                self.remark(key, reasons.get(key, otherwise))


def read_foreign_yaml(content: bytes, source: str) -> ForeignDocument:
    """The first document of YAML text. What cannot be read of it is remarked, and missing.

    Raises:
        ValueError: it cannot be read at all; says where and why.
    """
    try:
        documents = list(read_documents(decode_text(content)))
    except YamlProblem as problem:
        raise ValueError(_told(source, problem.position, problem.message)) from problem
    if not documents:
        return ForeignDocument(source, None)
    first = documents[0]
    read = ForeignDocument(source, first.value, _lines(first))
    read.remarks += [
        Remark(source, problem.position.line, ".".join(map(str, problem.path)), problem.message)
        for problem in first.problems
    ]
    if len(documents) > 1:
        read.remarks.append(Remark(source, documents[1].start.line, "", "further documents were passed over"))
    return read


def read_foreign_json(content: bytes, source: str) -> ForeignDocument:
    """JSON text.

    Raises:
        ValueError: it cannot be read; says where and why.
    """
    try:
        text = decode_text(content)
    except YamlProblem as problem:
        raise ValueError(_told(source, problem.position, problem.message)) from problem
    plain = _plain_json(text)
    try:
        value: JsonValue = json.loads(plain, parse_constant=_refuse_constant)
        _check_depth(value)
    except json.JSONDecodeError as error:
        raise ValueError(
            _told(source, Position(error.lineno, error.colno), f"no JSON: {error.msg}")
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source}: no JSON that can be read: {error or 'nested too deep'}") from error
    try:
        [document] = read_documents(plain.replace("\t", " "))
        lines = _lines(document)
    except (YamlProblem, ValueError):  # only where things stand is not known then
        lines = dict[FieldPath, int]()
    return ForeignDocument(source, value, lines)


def _plain_json(text: str) -> str:
    """The text with blanks for comments and for commas before a closing bracket; all else stays in place."""
    pieces: list[str] = _PIECES.findall(text)
    last = -1
    for place, piece in enumerate(pieces):
        if piece.startswith(("//", "/*")):
            pieces[place] = re.sub(r"[^\n]", " ", piece)
        elif not piece.isspace():
            if piece in "}]" and last >= 0 and pieces[last] == ",":
                pieces[last] = " "
            last = place
    return "".join(pieces)


def _refuse_constant(name: str) -> JsonValue:
    raise ValueError(f"{name} is no number")


def _check_depth(value: JsonValue) -> None:
    pending = [(value, 0)]
    while pending:
        found, depth = pending.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")
        inner = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
        pending += [(each, depth + 1) for each in inner]


def _lines(document: YamlDocument) -> dict[FieldPath, int]:
    return {path: place.line for path, place in (document.values | document.keys).items()}


def _told(source: str, position: Position, message: str) -> str:
    return f"{source}:{position.line}:{position.column}: {message}"
