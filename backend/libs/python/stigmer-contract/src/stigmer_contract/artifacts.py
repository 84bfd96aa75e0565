"""Artifacts: files of the workspace that an execution leaves behind, by the patterns of `spec.artifacts`.

What a pattern and a path may look like, and the bounds. Who collects them is the runner.
"""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_ARTIFACT_PATTERNS: Final = 50
MAX_PATTERN_CHARACTERS: Final = 1000
MAX_ARTIFACTS: Final = 200
MAX_ARTIFACT_BYTES: Final = 64 * 1024 * 1024
MAX_ARTIFACTS_BYTES: Final = 256 * 1024 * 1024
"""Of all files of one execution."""
MAX_ARTIFACT_PATH_CHARACTERS: Final = 1024
MAX_LEFT_OUT: Final = 50
"""Most files that are named as left out; of the others it is said how many there are."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")


def check_artifact_pattern(pattern: str) -> str:
    """A pattern for paths in the workspace, as it was.

    Raises:
        ValueError: why it is none.
    """
    if not 0 < len(pattern) <= MAX_PATTERN_CHARACTERS:
        raise ValueError(f"a pattern has 1 to {MAX_PATTERN_CHARACTERS} characters")
    if _CONTROL.search(pattern):
        raise ValueError(f"{pattern!r} holds a control character")
    if pattern.startswith(("/", "~", "!")):
        raise ValueError(f"{pattern!r} is not a path in the workspace; write it as from there: out/**")
    if ".." in pattern.split("/"):
        raise ValueError(f"{pattern!r} leads out of the workspace")
    if any(part in (".git", ".stigmer") for part in pattern.split("/")):
        raise ValueError(f"{pattern!r} names what is never collected: .git and .stigmer")
    _check_brackets(pattern)
    return pattern


def _check_brackets(pattern: str) -> None:
    """Raises ValueError where a bracket, a brace or a backslash has nothing that ends it."""
    depth, place = 0, 0
    while place < len(pattern):
        character = pattern[place]
        if character == "\\":
            place += 1
            if place == len(pattern):
                raise ValueError(f"{pattern!r} ends with a backslash")
        elif character == "[":
            end = pattern.find("]", place + (3 if pattern[place + 1 : place + 2] in ("!", "^") else 2))
            if end == -1:
                raise ValueError(f"{pattern!r} opens a bracket that it does not close")
            place = end
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
        if depth < 0:
            raise ValueError(f"{pattern!r} closes a brace that it does not open")
        place += 1
    if depth:
        raise ValueError(f"{pattern!r} opens a brace that it does not close")


ArtifactPattern = Annotated[str, AfterValidator(check_artifact_pattern)]


class Artifact(BaseModel):
    """One file that was collected."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    path: str = Field(max_length=MAX_ARTIFACT_PATH_CHARACTERS)
    """In the workspace, with `/` between its parts; bytes of odd names as `\\xNN`."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of what is kept, under which the blob store has it."""
    size_bytes: int = Field(ge=0)
    masked: bool = False
    """Whether secrets in it were replaced by their names, so that what is kept is not what the file holds."""


class LeftOutFile(BaseModel):
    """A file that a pattern names and that was not collected."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    path: str = Field(max_length=MAX_ARTIFACT_PATH_CHARACTERS)
    """As `Artifact.path`; where it is too long, its beginning."""
    reason: str = Field(max_length=500)
