"""How tests went: for a person, for a program, and for GitHub's page of a workflow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
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
    tokens: int | None = None
    cost_usd: Decimal | None = None


@dataclass
class Outcome:
    """How a test went."""

    name: str
    path: Path
    runs: list[RunOutcome]
    pass_rate: float
    keeps_executions: bool = True
    """Whether they can be looked at afterwards."""
    became_worse: str | None = None
    """Than in the baseline: how."""
    failed_before: bool = False
    """It fails, and did so in the baseline, too."""
    remark: str | None = None
    """What else is worth a look beside the baseline."""

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
        if self.became_worse is not None or self.failed_before:
            return self.became_worse is None
        return self.passed >= self.pass_rate * len(self.runs)

    @property
    def seconds(self) -> float:
        """Of all runs together."""
        return sum(run.seconds for run in self.runs)

    @property
    def tokens(self) -> int | None:
        """Of a run, in the mean; None where that is not known."""
        known = [run.tokens for run in self.runs if run.tokens is not None]
        return round(sum(known) / len(known)) if known else None

    @property
    def cost_usd(self) -> Decimal | None:
        """The same in US dollars."""
        known = [run.cost_usd for run in self.runs if run.cost_usd is not None]
        return sum(known, Decimal(0)) / len(known) if known else None

    @property
    def why(self) -> str:
        """What did not hold in the first run that failed."""
        run = next((run for run in self.runs if run.failures), None)
        if run is None:
            return self.skipped_because or self.became_worse or ""
        lines = [self.became_worse] if self.became_worse is not None else []
        lines += [line for failure in run.failures for line in failure.splitlines()]
        shown = lines[: MAX_SHOWN_LINES - 1]
        if len(lines) > len(shown):
            shown[-1] = f"… and {len(lines) - len(shown) + 1} lines more"
        look = f"look: stigmer executions get {run.execution_id}" if run.execution_id else ""
        if not self.keeps_executions:
            look = "to look at executions afterwards, run `stigmer server start` first"
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
    is_good = outcome.is_good(strict=strict) and not outcome.failed_before
    mark = "-" if outcome.skipped_because is not None else "✓" if is_good else "✗"
    rate = ""
    if len(outcome.runs) > 1:
        low, high = interval(outcome.passed, len(outcome.runs))
        rate = f", {outcome.passed} of {len(outcome.runs)} runs ({100 * low:.0f}–{100 * high:.0f} %)"
    skipped = f", skipped: {outcome.skipped_because}" if outcome.skipped_because else ""
    before = ", as in the baseline" if outcome.failed_before else ""
    remark = f", {outcome.remark}" if outcome.remark else ""
    took = format_seconds(outcome.seconds)
    print_note(sanitize(f"{mark} {outcome.name} ({took}{rate}{skipped}{before}{remark})"))
    if not outcome.is_good(strict=strict):
        for line in outcome.why.splitlines():
            print_note(f"    {sanitize(line)}")


def _summary(outcomes: Sequence[Outcome], *, strict: bool) -> str:
    skipped = sum(each.skipped_because is not None for each in outcomes)
    failed = sum(not each.is_good(strict=strict) for each in outcomes)
    known = sum(each.failed_before for each in outcomes)
    passed = len(outcomes) - failed - known - (0 if strict else skipped)
    parts = [f"{passed} passed"]
    if failed:
        parts.append(f"{failed} failed")
    if known:
        parts.append(f"{known} failed as before")
    if skipped:
        parts.append(f"{skipped} skipped")
    return f"{plural(len(outcomes), 'test')}: {', '.join(parts)}"


def results_json(outcomes: Sequence[Outcome]) -> list[dict[str, JsonValue]]:
    """For a program."""
    return [
        {
            "name": each.name,
            "file": str(each.path),
            "passed": each.skipped_because is None and each.is_good(strict=False) and not each.failed_before,
            "failed_before": each.failed_before,
            "became_worse": each.became_worse,
            "skipped_because": each.skipped_because,
            "runs": [
                {
                    "execution_id": run.execution_id,
                    "failures": list[JsonValue](run.failures),
                    "seconds": round(run.seconds, 3),
                    "tokens": run.tokens,
                    "cost_usd": None if run.cost_usd is None else str(run.cost_usd),
                }
                for run in each.runs
            ],
        }
        for each in outcomes
    ]


def write_reports(
    outcomes: Sequence[Outcome], junit: str | None, step_summary: str | None, *, strict: bool
) -> None:
    """Write the results where they are wanted, and all of them in a line for a person."""
    from stigmer_cli.agent_tests.junit import junit_xml

    if junit is not None:
        Path(junit).write_text(junit_xml(outcomes, strict=strict), encoding="utf-8")
    print_note(_summary(outcomes, strict=strict))
    if step_summary:
        _write_step_summary(step_summary, outcomes, strict=strict)
        _print_annotations(outcomes, strict=strict)


def _write_step_summary(file: str, outcomes: Sequence[Outcome], *, strict: bool) -> None:
    """A table for the page of a workflow's run on GitHub."""
    rows = ["| test | result | time |", "|---|---|---|"]
    for each in outcomes:
        result = "**failed**" if not each.is_good(strict=strict) else "passed"
        if each.skipped_because and not strict:
            result = "skipped"
        elif each.failed_before:
            result = "failed as before"
        name = each.name.replace("|", "\\|")
        rows.append(f"| {name} | {result} | {format_seconds(each.seconds)} |")
    with Path(file).open("a", encoding="utf-8") as summary:
        summary.write("\n".join([f"### {_summary(outcomes, strict=strict)}", "", *rows, ""]))


def _print_annotations(outcomes: Sequence[Outcome], *, strict: bool) -> None:
    """A mark at the file of each test that failed (docs.github.com, "Workflow commands")."""
    for each in outcomes:
        if not each.is_good(strict=strict):
            file, title = _escaped_property(str(each.path)), _escaped_property(each.name)
            print_note(sanitize(f"::error file={file},title={title}::{_escaped(each.why)}"))


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escaped_property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
