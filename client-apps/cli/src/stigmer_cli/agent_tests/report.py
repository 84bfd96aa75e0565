"""How tests went: for a person, for a program, and for GitHub's page of a workflow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from stigmer_cli.output import print_note, sanitize
from stigmer_cli.rendering.quantities import format_seconds, plural

MAX_SHOWN_LINES = 10
"""Of why a test failed."""


@dataclass(frozen=True)
class RunOutcome:
    """How one run went."""

    execution_id: str | None
    failures: list[str]
    seconds: float
    skipped_because: str | None


@dataclass(frozen=True)
class Outcome:
    """How a test went."""

    name: str
    path: Path
    runs: list[RunOutcome]
    pass_rate: float

    @property
    def passed(self) -> int:
        """How many runs."""
        return sum(not run.failures for run in self.runs)

    @property
    def skipped_because(self) -> str | None:
        """Why it was skipped; None: it was not."""
        return next((run.skipped_because for run in self.runs if run.skipped_because is not None), None)

    def is_good(self, *, strict: bool) -> bool:
        """Whether it is no reason to fail."""
        if self.skipped_because is not None:
            return not strict
        return self.passed >= self.pass_rate * len(self.runs)

    @property
    def seconds(self) -> float:
        """Of all runs together."""
        return sum(run.seconds for run in self.runs)

    @property
    def why(self) -> str:
        """What did not hold in the first run that failed."""
        run = next((run for run in self.runs if run.failures), None)
        if run is None:
            return self.skipped_because or ""
        lines = [line for failure in run.failures for line in failure.splitlines()]
        shown = lines[: MAX_SHOWN_LINES - 1]
        if len(lines) > len(shown):
            shown[-1] = f"… and {len(lines) - len(shown) + 1} lines more"
        look = f"look: stigmer executions get {run.execution_id}" if run.execution_id else ""
        return "\n".join([*shown, look] if look else shown)


def interval(passed: int, runs: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (E. B. Wilson, 1927), which holds for few runs too."""
    z = 1.959964
    share = passed / runs
    middle = (share + z * z / (2 * runs)) / (1 + z * z / runs)
    half = z / (1 + z * z / runs) * math.sqrt(share * (1 - share) / runs + z * z / (4 * runs * runs))
    return max(0.0, middle - half), min(1.0, middle + half)


def print_outcome(outcome: Outcome, *, strict: bool) -> None:
    """One test in a line, and why where it failed."""
    mark = "-" if outcome.skipped_because is not None else "✓" if outcome.is_good(strict=strict) else "✗"
    rate = ""
    if len(outcome.runs) > 1:
        low, high = interval(outcome.passed, len(outcome.runs))
        rate = f", {outcome.passed} of {len(outcome.runs)} runs ({100 * low:.0f}–{100 * high:.0f} %)"
    skipped = f", skipped: {outcome.skipped_because}" if outcome.skipped_because else ""
    print_note(sanitize(f"{mark} {outcome.name} ({format_seconds(outcome.seconds)}{rate}{skipped})"))
    if not outcome.is_good(strict=strict):
        for line in outcome.why.splitlines():
            print_note(f"    {sanitize(line)}")


def print_summary(outcomes: Sequence[Outcome], *, strict: bool) -> None:
    """All of them in a line."""
    print_note(_summary(outcomes, strict=strict))


def _summary(outcomes: Sequence[Outcome], *, strict: bool) -> str:
    skipped = sum(each.skipped_because is not None for each in outcomes)
    failed = sum(not each.is_good(strict=strict) for each in outcomes)
    passed = len(outcomes) - failed - (0 if strict else skipped)
    parts = [f"{passed} passed"]
    if failed:
        parts.append(f"{failed} failed")
    if skipped:
        parts.append(f"{skipped} skipped")
    return f"{plural(len(outcomes), 'test')}: {', '.join(parts)}"


def results_json(outcomes: Sequence[Outcome]) -> list[dict[str, JsonValue]]:
    """For a program."""
    return [
        {
            "name": each.name,
            "file": str(each.path),
            "passed": each.skipped_because is None and each.is_good(strict=False),
            "skipped_because": each.skipped_because,
            "runs": [
                {
                    "execution_id": run.execution_id,
                    "failures": list[JsonValue](run.failures),
                    "seconds": round(run.seconds, 3),
                }
                for run in each.runs
            ],
        }
        for each in outcomes
    ]


def write_step_summary(file: str | None, outcomes: Sequence[Outcome]) -> None:
    """A table for the page of a workflow's run on GitHub, where there is one."""
    if not file:
        return
    rows = ["| test | result | time |", "|---|---|---|"]
    for each in outcomes:
        good = each.is_good(strict=False)
        result = "skipped" if each.skipped_because else "passed" if good else "**failed**"
        name = each.name.replace("|", "\\|")
        rows.append(f"| {name} | {result} | {format_seconds(each.seconds)} |")
    with Path(file).open("a", encoding="utf-8") as summary:
        summary.write("\n".join([f"### {_summary(outcomes, strict=False)}", "", *rows, ""]))
