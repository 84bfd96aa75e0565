"""The sign of life: what is happening, for how long, and what it has cost so far. Pure."""

from dataclasses import dataclass
from typing import Final

from stigmer_cli.rendering.quantities import format_cost, format_count, format_seconds, plural
from stigmer_contract.events import Usage

FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
FRAMES_PER_SECOND: Final = 4
_SHORT_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Activity:
    """What is happening."""

    text: str
    began_at: float
    """On the clock of whoever draws."""
    ends_at: float | None = None
    """Where that is known: then the time left is shown, not the time that passed."""
    reason: str = ""
    """Why; for a line of its own."""


def status_line(activity: Activity, *, now: float, began_at: float, usage: Usage) -> str:
    """`⠋ asking the model 4 s · 1 min 5 s · 3 turns · 12.3k tokens · $0.02`."""
    frame = FRAMES[int(now * FRAMES_PER_SECOND) % len(FRAMES)]
    since = now - activity.began_at
    if activity.ends_at is not None:
        doing = f"{activity.text} in {_whole_seconds(max(0.0, activity.ends_at - now))}"
    else:
        doing = f"{activity.text} {_whole_seconds(since)}" if since >= _SHORT_SECONDS else activity.text
    parts = [f"{frame} {doing}"]
    if now - began_at >= _SHORT_SECONDS and activity.began_at - began_at >= _SHORT_SECONDS:
        parts.append(_whole_seconds(now - began_at))
    if usage.requests:
        parts += [plural(usage.requests, "turn"), f"{format_count(usage.total_tokens)} tokens"]
    if usage.cost_usd is not None:
        parts.append(format_cost(usage.cost_usd))
    return " · ".join(parts)


def _whole_seconds(seconds: float) -> str:
    return f"{int(seconds)} s" if seconds < 60 else format_seconds(int(seconds))
