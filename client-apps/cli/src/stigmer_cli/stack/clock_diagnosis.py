"""Checks this machine's clock against others that answered: certificates, tokens and schedules go by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from stigmer_cli.stack.finding import Finding, Outcome

TOLERATED_SECONDS = 30.0
"""More than any answer takes, and less than what a provider or Temporal minds."""


@dataclass(frozen=True)
class ClockReading:
    """What another clock said, when this one said that."""

    source: str
    theirs: datetime
    ours: datetime

    @property
    def ahead_seconds(self) -> float:
        """How far ahead this machine is; negative: behind."""
        return (self.ours - self.theirs).total_seconds()


def read_date_header(source: str, text: str | None) -> ClockReading | None:
    """The reading of a `Date` header (RFC 9110, section 6.6.1); None where there is none."""
    try:
        theirs = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return ClockReading(source, theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC), datetime.now(UTC))


def check_clock(readings: Sequence[ClockReading]) -> Finding:
    """Whether this clock agrees with the others."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if not readings:
        return Finding("clock", Outcome.PASSED, f"{now}; no other clock answered to compare it with")
    worst = max(readings, key=lambda reading: abs(reading.ahead_seconds))
    if abs(worst.ahead_seconds) <= TOLERATED_SECONDS:
        return Finding("clock", Outcome.PASSED, f"{now}, as {worst.source} says")
    where = "ahead of" if worst.ahead_seconds > 0 else "behind"
    detail = f"{now} is {abs(worst.ahead_seconds):.0f} s {where} the clock of {worst.source}"
    return Finding("clock", Outcome.FAILED, detail, "set the clock, and keep it by NTP")
