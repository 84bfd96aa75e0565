"""How tests went before, to tell what has become worse from what was never good."""

import json
import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stigmer_cli.agent_tests.report import Outcome, interval
from stigmer_cli.errors import StigmerError, UsageError

DEARER: Final = 1.2
"""So many times the tokens of before are worth a remark."""


class KnownTest(BaseModel):
    """How one test went."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    good: bool
    runs: int = Field(ge=1)
    passed: int = Field(ge=0)
    tokens: int | None = None
    """Of a run, in the mean."""
    cost_usd: Decimal | None = None
    """The same in US dollars."""


class Baseline(BaseModel):
    """How all of them went."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    tests: dict[str, KnownTest] = {}
    """By file, relative to the baseline's folder."""


class KnownTests:
    """A baseline, and the folder that its paths are relative to."""

    def __init__(self, folder: Path, tests: Mapping[str, KnownTest]) -> None:
        self._folder = folder
        self.tests = tests

    def key(self, outcome: Outcome) -> str:
        """What a test is called there."""
        return Path(os.path.relpath(outcome.path.absolute(), self._folder)).as_posix()


def read_baseline(file: str | None, *, may_be_missing: bool) -> KnownTests | None:
    """The baseline of a file; None where none is named.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    if file is None:
        return None
    path = Path(file).absolute()
    try:
        baseline = Baseline.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        if may_be_missing:
            return KnownTests(path.parent, {})
        raise UsageError(
            f"could not read the baseline {file!r}: it is not there", "write it with --update"
        ) from error
    except OSError as error:
        raise UsageError(f"could not read the baseline {file!r}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"{file}: it is no baseline: {f'{where}: ' if where else ''}{first['msg']}",
            "write it anew with --update",
        ) from error
    return KnownTests(path.parent, baseline.tests)


def compare(outcome: Outcome, known: KnownTests | None) -> None:
    """Note in the outcome what it is beside that of before."""
    before = None if known is None else known.tests.get(known.key(outcome))
    if before is None or outcome.skipped_because is not None:
        return
    was = f"{before.passed} of {before.runs} runs passed" if before.runs > 1 else "it passed"
    at_most, at_least = (
        interval(outcome.passed, len(outcome.runs))[1],
        interval(before.passed, before.runs)[0],
    )
    if at_most < at_least:
        outcome.became_worse = f"{was} in the baseline"
    elif not outcome.is_good(strict=False):
        outcome.failed_before = not before.good
        if before.good:
            outcome.became_worse = f"{was} in the baseline"
    if before.tokens and outcome.tokens and outcome.tokens > DEARER * before.tokens:
        outcome.remark = f"{outcome.tokens:,} tokens a run, {before.tokens:,} in the baseline"


def write_baseline(file: str, outcomes: Sequence[Outcome], known: KnownTests | None) -> None:
    """Write how they went; tests that were not run stay as they were, as long as there are such.

    Raises:
        StigmerError: the file cannot be written.
    """
    assert known is not None
    path = Path(file).absolute()
    tests = {key: test for key, test in known.tests.items() if (path.parent / key).is_file()}
    for each in outcomes:
        if each.skipped_because is None:
            tests[known.key(each)] = KnownTest(
                good=each.passed >= each.pass_rate * len(each.runs),
                runs=len(each.runs),
                passed=each.passed,
                tokens=each.tokens,
                cost_usd=each.cost_usd,
            )
    document = Baseline(tests=dict(sorted(tests.items()))).model_dump(mode="json", exclude_none=True)
    try:
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise StigmerError(f"could not write the baseline {file!r}: {error.strerror}") from error
