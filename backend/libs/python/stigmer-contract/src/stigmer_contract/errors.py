"""What can go wrong in the contract's own work: reading what a person wrote.

ContractError
└── ManifestError   a manifest cannot be used; holds every problem of it
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
