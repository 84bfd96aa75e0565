"""Durations, ages, counts and costs as a person reads them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stigmer_contract.events import Usage  # importing pydantic takes longer than most commands


def format_seconds(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def format_age(moment: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that fits: `12 s ago`, `3 h ago`, `2 d ago`."""
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def format_count(count: int) -> str:
    """`950`, `12.3k`, `4.1M`."""
    for unit, size in (("M", 1_000_000), ("k", 1000)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


def format_bytes(size_bytes: int) -> str:
    """`950 B`, `12.3 kB`, `4.1 MB`, in powers of a thousand."""
    for unit, size in (("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)):
        if size_bytes >= size:
            return f"{size_bytes / size:.1f} {unit}"
    return f"{size_bytes} B"


def format_cost(cost_usd: Decimal) -> str:
    """`$1.25`, `$0.0042`: two significant digits at least."""
    if cost_usd == 0:
        return "$0"
    return f"${cost_usd:.2f}" if cost_usd >= Decimal("0.1") else f"${cost_usd:.4f}"


def plural(count: int, noun: str) -> str:
    """`1 turn`, `2 turns`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_usage(usage: Usage) -> str:
    """`3 turns · 1.2k tokens in (80% cached) · 300 out · $0.01`."""
    share = 100 * usage.cache_read_tokens // usage.input_tokens if usage.input_tokens else 0
    parts = [
        plural(usage.requests, "turn"),
        f"{format_count(usage.input_tokens)} tokens in" + (f" ({share}% cached)" if share else ""),
        f"{format_count(usage.output_tokens)} out",
    ]
    if usage.cost_usd is not None:
        parts.append(format_cost(usage.cost_usd))
    if usage.estimated:
        parts.append("estimated, for the provider reported no usage")
    return " · ".join(parts)
