"""The sign of life: what is happening, for how long, and what it has cost so far. Pure."""

import math
from dataclasses import dataclass
from typing import Final

from stigmer_cli.rendering.quantities import format_cost, format_count, format_seconds, plural
from stigmer_cli.rendering.waiting_line import frame_at
from stigmer_contract.events import Usage

_SHORT_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Activity:
    """What is happening."""

    text: str
    began_at: float
    """On the clock of whoever draws."""
    due_at: float | None = None
    """When it begins, where that is later: until then the time left is shown."""
    reason: str = ""
    """Why; for a line of its own."""


def status_line(activity: Activity, *, now: float, began_at: float, usage: Usage) -> str:
    """`⠋ asking the model 4 s · 1 min 5 s · 3 turns · 12.3k tokens · $0.02`."""
    since = now - (activity.due_at or activity.began_at)
    if activity.due_at is not None and now < activity.due_at:
        doing = f"{activity.text} in {_whole_seconds(math.ceil(activity.due_at - now))}"
    else:
        doing = f"{activity.text} {_whole_seconds(since)}" if since >= _SHORT_SECONDS else activity.text
    parts = [f"{frame_at(now)} {doing}"]
    if now - began_at >= _SHORT_SECONDS and activity.began_at - began_at >= _SHORT_SECONDS:
        parts.append(_whole_seconds(now - began_at))
    if usage.requests:
        parts += [plural(usage.requests, "turn"), f"{format_count(usage.total_tokens)} tokens"]
    if usage.cost_usd is not None:
        parts.append(format_cost(usage.cost_usd))
    return " · ".join(parts)


def _whole_seconds(seconds: float) -> str:
    return f"{int(seconds)} s" if seconds < 60 else format_seconds(int(seconds))
