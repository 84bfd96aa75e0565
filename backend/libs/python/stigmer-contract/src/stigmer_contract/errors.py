"""What can go wrong in the contract's own work: reading what a person wrote.

ContractError
├── ManifestError   a manifest cannot be used; holds every problem of it
├── CassetteError   a cassette cannot be used; holds the first problem of it
├── PackError       files cannot be packed or unpacked
└── SnapshotDamaged a snapshot cannot be read
"""

from dataclasses import dataclass


class ContractError(Exception):
    """Any failure that a reader of the contract's formats expects."""


@dataclass(frozen=True)
class ManifestProblem:
    """One thing that is wrong in a manifest, and where."""

    source: str
    """The file as the person named it; `-` for standard input."""
    line: int
    """From 1."""
    column: int
    """From 1, in characters."""
    field_path: str
    """As the person spells it, such as `spec.limits.duration`; empty for the document itself."""
    message: str
    """What is wrong."""
    hint: str | None = None
    """What would be right, imperative."""

    def __str__(self) -> str:
        field = f"{self.field_path}: " if self.field_path else ""
        return f"{self.source}:{self.line}:{self.column}: {field}{self.message}"


class ManifestError(ContractError):
    """A manifest cannot be used. Nothing of the text was taken.

    `problems` holds at least one, in the order of the text.
    """

    def __init__(self, problems: list[ManifestProblem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class CassetteError(ContractError):
    """A cassette cannot be used."""

    def __init__(self, problem: str, *, line: int | None = None, field_path: str = "") -> None:
        place = f"line {line}: " if line is not None else ""
        super().__init__(f"{place}{field_path}{': ' if field_path else ''}{problem}")
        self.problem = problem
        self.line = line
        """From 1; None where the text as a whole is meant."""
        self.field_path = field_path
        """As the person spells it, such as `turns[2].toolCalls[0].tool`; empty for the text itself."""


class PackError(ContractError):
    """Files cannot be packed, or a pack cannot be unpacked. The message says why, and begins with "it"."""


class SnapshotDamaged(ContractError):
    """A snapshot cannot be read, or is not what it says. The message says what of it."""
