"""A baseline tells what has become worse from chance, and from what was never good."""

from pathlib import Path

import pytest

from stigmer_cli.agent_tests.baseline import KnownTest, KnownTests, compare
from stigmer_cli.agent_tests.report import Outcome, RunOutcome


def went(passed: int, runs: int, *, tokens: int | None = None, rate: float = 1.0) -> Outcome:
    """A test of which so many runs passed."""
    outcomes = [
        RunOutcome(None, [] if place < passed else ["it is wrong"], 1.0, None, tokens)
        for place in range(runs)
    ]
    return Outcome("one", Path("/tests/one.test.yaml"), outcomes, rate)


@pytest.mark.parametrize(
    ("before", "now", "is_good"),
    [
        (went(1, 1), went(1, 1), True),
        (went(1, 1), went(0, 1), False),
        (went(0, 1), went(0, 1), True),
        (went(0, 1), went(1, 1), True),
        (went(20, 20, rate=0.5), went(19, 20, rate=0.5), True),  # chance
        (went(20, 20, rate=0.5), went(12, 20, rate=0.5), False),
        (went(5, 20), went(4, 20), True),
        (went(18, 20), went(2, 20), False),
    ],
    ids=["same", "worse", "never good", "better", "chance", "worse by far", "weak by chance", "weaker"],
)
def test_only_what_has_become_worse_fails(before: Outcome, now: Outcome, is_good: bool) -> None:
    known = KnownTest(good=before.is_good(strict=False), runs=len(before.runs), passed=before.passed)
    compare(now, KnownTests(Path("/tests"), {"one.test.yaml": known}))
    assert now.is_good(strict=False) is is_good


def test_a_test_that_the_baseline_does_not_have_counts_by_itself() -> None:
    outcome = went(0, 1)
    compare(outcome, KnownTests(Path("/tests"), {}))
    assert not outcome.is_good(strict=False)


def test_more_tokens_than_before_are_worth_a_remark() -> None:
    outcome = went(1, 1, tokens=1500)
    known = KnownTest(good=True, runs=1, passed=1, tokens=1000)
    compare(outcome, KnownTests(Path("/tests"), {"one.test.yaml": known}))
    assert outcome.is_good(strict=True)
    assert outcome.remark == "1,500 tokens a run, 1,000 in the baseline"
