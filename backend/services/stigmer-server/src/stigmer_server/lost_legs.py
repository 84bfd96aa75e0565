"""Legs that were lost without getting any further: how long to wait, and when to give the execution up.

Pure. A runner counts as dead where its starter saw it end, or where Temporal missed it and it was never heard
from again; everything else (an answer that was lost, a Temporal that stood still) is no death.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import ExecutionFailed, LegLossCause

MAX_DEATHS: Final = 5
"""After so many runners died in a row without writing a step, going on would be a crash loop."""
MAX_HANGS: Final = 2
"""After so many runners hung in a row in the same place."""
MAX_LOST_LEGS: Final = 20
"""How many are remembered."""
FIRST_PAUSE_SECONDS: Final = 1.0
MAX_PAUSE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class LostLeg:
    """What is remembered of an event `leg.lost`."""

    runner: str
    cause: LegLossCause
    at: datetime
    how: str | None = None


def pause_seconds(lost: Sequence[LostLeg]) -> float:
    """How long the next leg waits: not after one loss, then longer each time."""
    if len(lost) < 2:
        return 0.0
    return float(min(FIRST_PAUSE_SECONDS * 2 ** (len(lost) - 2), MAX_PAUSE_SECONDS))


def reason_to_give_up(lost: Sequence[LostLeg], heard_at: Mapping[str, datetime]) -> ExecutionFailed | None:
    """The end of an execution that only kills runners; None: go on.

    Args:
        lost: legs lost one after the other, without a step between them.
        heard_at: when runners were heard from last, by name.
    """
    hung = [leg for leg in lost if leg.cause is LegLossCause.RUNNER_HUNG]
    if len(hung) >= MAX_HANGS:
        return ExecutionFailed(
            code=ErrorCode.RUNNER_LOST,
            message=f"{len(hung)} runners hung one after the other in the same place: {hung[-1].how}",
            hint="look at what this step makes the runner do, such as a pattern or a very large file",
        )
    dead = [leg for leg in lost if _is_death(leg, heard_at)]
    if len(dead) < MAX_DEATHS:
        return None
    return ExecutionFailed(
        code=ErrorCode.RUNNER_LOST,
        message=(
            f"{len(dead)} runners died one after the other without getting any further: "
            f"{_what_was_seen(dead)}"
        ),
        hint="look at the runner's log and its memory limit, then start the execution again",
    )


def _is_death(leg: LostLeg, heard_at: Mapping[str, datetime]) -> bool:
    match leg.cause:
        case LegLossCause.RUNNER_ENDED | LegLossCause.RUNNER_HUNG:
            return True
        case LegLossCause.RUNNER_SILENT:
            heard = heard_at.get(leg.runner)
            return heard is None or heard <= leg.at
        case LegLossCause.TAKEN_AGAIN:
            return False


def _what_was_seen(dead: Sequence[LostLeg]) -> str:
    silent = "Temporal missed its heartbeat, and nothing was heard of it again"
    seen = Counter(leg.how or silent for leg in dead)
    return "; ".join(f"{how} ({times} times)" if times > 1 else how for how, times in seen.items())
