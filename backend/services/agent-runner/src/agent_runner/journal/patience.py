"""How long a request that failed is made again, and when next: pure rules over what the log holds of it.

Up to a minute after the first failure the leg waits itself. Later waits grow, and hold nothing: the leg ends.
All moments are of the server's clock.
"""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from agent_runner.errors import ExecutionFailure
from agent_runner.models import ModelFault, Retry, backoff_seconds
from stigmer_contract.events import ModelFailed
from stigmer_contract.manifest_parts import FOREVER, format_duration

LEG_PATIENCE: Final = timedelta(minutes=1)
"""For so long after the first failure the leg keeps its slot."""
LONGEST_PAUSE: Final = timedelta(minutes=10)
"""Between two requests to a model that is away, unless its provider asks for more."""
DEFAULT_PATIENCE: Final = timedelta(minutes=30)
LONGEST_ANNOUNCED: Final = timedelta(days=1)
"""Where `limits.modelUnavailable` is left out, a provider that names a time is waited for as long as this."""


@dataclass(frozen=True)
class Failures:
    """Those of one request so far."""

    count: int = 0
    answered: int = 0
    """How many of them were answers that had begun, or could not be used."""
    since: datetime | None = None
    """When the first was; None: there was none."""
    next_try_at: datetime | None = None

    @classmethod
    def of(cls, event: ModelFailed | None) -> "Failures":
        """As the log says."""
        return cls() if event is None else cls(event.failures, event.answered, event.since, event.next_try_at)

    @property
    def holds_leg(self) -> bool:
        """Whether the leg itself waits for the next try."""
        if self.since is None or self.next_try_at is None:
            return True
        return self.count < Retry.OFTEN and self.next_try_at - self.since <= LEG_PATIENCE


def after_failure(
    before: Failures, fault: ModelFault, now: datetime, patience: timedelta | Literal["forever"] | None
) -> Failures:
    """What holds after one more failure.

    Args:
        before: what the log holds.
        fault: how the request failed.
        now: when.
        patience: the agent's `limits.modelUnavailable`; None: it says nothing.

    Raises:
        ExecutionFailure: the request is not made again.
    """
    since, count = before.since or now, before.count + 1
    answered = before.answered + (not fault.is_away)
    if not fault.is_away and answered >= fault.retry:
        raise ExecutionFailure(fault.code, fault.message, fault.hint)
    next_try_at = now + _pause(count, fault.retry_after_seconds, now - since)
    if fault.is_away:
        next_try_at = _within_patience(fault, since, now, next_try_at, patience, count)
    return Failures(count, answered, since, next_try_at)


def _pause(count: int, asked_seconds: float | None, elapsed: timedelta) -> timedelta:
    asked = None if asked_seconds is None else min(asked_seconds, 10 * LONGEST_ANNOUNCED.total_seconds())
    pause = timedelta(seconds=backoff_seconds(count, asked))
    if count < Retry.OFTEN and elapsed + pause <= LEG_PATIENCE:
        return pause
    # As long as it has been away already, so that few are asked of one that is away for long.
    grown = min(max(elapsed, LEG_PATIENCE), LONGEST_PAUSE) * random.uniform(1, 1.1)  # noqa: S311 - no secret
    return pause if asked is not None and pause > LEG_PATIENCE else max(pause, grown)


def _within_patience(
    fault: ModelFault,
    since: datetime,
    now: datetime,
    next_try_at: datetime,
    patience: timedelta | Literal["forever"] | None,
    count: int,
) -> datetime:
    """The next try, or the last one where the patience ends before.

    Raises:
        ExecutionFailure: it is over.
    """
    if patience == FOREVER:
        return next_try_at
    end = since + (patience or DEFAULT_PATIENCE)
    announced = now + timedelta(seconds=min(fault.retry_after_seconds or 0.0, 1e9))
    if patience is None and announced - since <= LONGEST_ANNOUNCED:
        end = max(end, announced)
    if announced > end:
        asked = format_duration(timedelta(seconds=int(fault.retry_after_seconds or 0)))
        raise ExecutionFailure(
            fault.code,
            f"{fault.message}; it asks to be left alone for {asked}, longer than the agent may wait for it",
            fault.hint,
        )
    if now >= end:
        lasted = format_duration(now - since)
        times = "" if count == 1 else f" (asked {count} times in {lasted})"
        raise ExecutionFailure(fault.code, f"{fault.message}{times}", fault.hint)
    return min(next_try_at, max(end, announced))
