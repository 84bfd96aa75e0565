"""Reads a SKILL.md by the open standard (agentskills.io/specification), and says everything wrong with it.

Names file, line, column and field. Keys that the standard does not know are passed over: other programs have
theirs. Reads no files itself.
"""

import re
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from stigmer_contract.errors import ManifestError, ManifestProblem
from stigmer_contract.manifest_skills import (
    MAX_SKILL_DESCRIPTION,
    MAX_SKILL_NAME,
    MAX_TOLD_DESCRIPTION,
    SKILL_NAME,
)
from stigmer_contract.yaml_document import YamlDocument, decode_text, read_documents
from stigmer_contract.yaml_problems import Position, YamlProblem

SKILL_FILE: Final = "SKILL.md"
MAX_COMPATIBILITY: Final = 500
_FENCE: Final = re.compile(r"---[ \t]*\r?\n")
_TEXTS: Final = ("license", "compatibility")
_NO_FENCE: Final = "begins with no front matter"


@dataclass(frozen=True)
class SkillDocument:
    """What a SKILL.md says."""

    name: str
    description: str
    body: str
    """The instructions: what follows the front matter."""
    allowed_tools: str | None
    """What its author would let it use without asking. Nothing is granted by it."""
    notes: tuple[ManifestProblem, ...] = ()
    """Where it departs from the standard, as public ones do, in what keeps nobody from using it."""


def read_skill(content: bytes, source: str, folder_name: str | None = None) -> SkillDocument:
    """The skill of a SKILL.md.

    Args:
        content: the file's.
        source: what problems call the file.
        folder_name: the folder that it lies in, whose name the standard wants to be the skill's.

    Raises:
        ManifestError: with every problem that keeps it from being used.
    """
    reading = _Reading(source)
    try:
        text = decode_text(content)
        front, body = split_front_matter(text)
        documents = list(read_documents(front))
    except YamlProblem as error:
        raise ManifestError([reading.located(error)]) from error
    document = documents[0] if documents else YamlDocument(Position(1, 1))
    reading.problems += [reading.located(problem) for problem in document.problems]
    value = document.value
    if not isinstance(value, dict) or len(documents) > 1:
        reading.add(Position(1, 1), "", "front matter must be one mapping, with name and description")
        raise ManifestError(reading.problems)
    name = reading.text(document, value, "name", MAX_SKILL_NAME)
    if name is not None and not re.fullmatch(SKILL_NAME, name):
        reading.at(
            document, "name", f"{name!r} is no name: lower-case letters, digits, single hyphens between"
        )
    description = reading.text(document, value, "description", MAX_TOLD_DESCRIPTION)
    if reading.problems:
        raise ManifestError(reading.in_order())
    assert name is not None and description is not None
    if folder_name is not None and name != folder_name:
        reading.at(document, "name", f"{name!r} must be the name of its folder, {folder_name!r}")
    if len(description) > MAX_SKILL_DESCRIPTION:
        length = len(description)
        reading.at(document, "description", f"has {length} characters, and may have {MAX_SKILL_DESCRIPTION}")
    for key in _TEXTS:
        if value.get(key) is not None:
            reading.text(document, value, key, MAX_COMPATIBILITY if key == "compatibility" else None)
    if value.get("metadata") is not None and not isinstance(value["metadata"], dict):
        reading.at(document, "metadata", "must be a mapping")
    allowed = value.get("allowed-tools")
    return SkillDocument(
        name,
        description,
        body.strip("\r\n"),
        None if allowed is None else str(allowed),
        tuple(reading.in_order()),
    )


def split_front_matter(text: str) -> tuple[str, str]:
    """Front matter and body. Lines are counted in the front matter as in the whole.

    Raises:
        YamlProblem: there is no front matter.
    """
    hint = "begin the file with a line `---`, name, description, and a line `---`"
    opened = _FENCE.match(text)
    if opened is None:
        raise YamlProblem(Position(1, 1), _NO_FENCE, hint)
    closed = re.compile(r"^---[ \t]*\r?$", re.MULTILINE).search(text, opened.end())
    if closed is None:
        raise YamlProblem(Position(1, 1), "its front matter has no end", hint)
    # The fence stays as an empty line, so that lines are counted as in the file.
    return "\n" + text[opened.end() : closed.start()], text[closed.end() :]


class _Reading:
    """The problems of one file."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.problems: list[ManifestProblem] = []

    def located(self, error: YamlProblem) -> ManifestProblem:
        field = ".".join(str(part) for part in error.path)
        return ManifestProblem(
            self._source, error.position.line, error.position.column, field, error.message, error.hint
        )

    def add(self, position: Position, field: str, message: str, hint: str | None = None) -> None:
        self.problems.append(
            ManifestProblem(self._source, position.line, position.column, field, message, hint)
        )

    def in_order(self) -> list[ManifestProblem]:
        """As they stand in the file."""
        return sorted(self.problems, key=lambda problem: (problem.line, problem.column))

    def at(self, document: YamlDocument, field: str, message: str) -> None:
        self.add(document.values.get((field,), document.start), field, message)

    def text(
        self, document: YamlDocument, value: dict[str, JsonValue], field: str, longest: int | None
    ) -> str | None:
        """A text of the front matter; None where it is missing or wrong, which has been noted."""
        if any(problem.field_path == field for problem in self.problems):
            return None
        held = value.get(field)
        if held is None:
            self.add(document.start, field, "is missing")
        elif not isinstance(held, str):
            self.at(document, field, "must be text; put it in quotes")
        elif not held.strip():
            self.at(document, field, "must not be empty")
        elif longest is not None and len(held) > longest:
            self.at(document, field, f"has {len(held)} characters, and may have {longest}")
        else:
            return held.strip()
        return None
