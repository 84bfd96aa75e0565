"""What one check of `stigmer doctor` found."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a check went."""

    PASSED = "passed"
    WARNING = "warning"
    """Agents can run, but something may surprise."""
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    name: str
    outcome: Outcome
    detail: str
    remedy: str | None = None
    """What to do, where it did not pass."""
