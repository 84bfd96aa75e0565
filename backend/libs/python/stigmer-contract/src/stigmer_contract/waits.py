"""What an execution may wait for between two legs, and which event ends such a wait.

A new kind of wait is a member of `WaitKind` and an entry in `ENDED_BY`; nothing else decides what wakes an
execution. The log holds the answer: whoever is woken reads it there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from stigmer_contract.wait_kinds import WaitKind as WaitKind


class WaitReason(BaseModel):
    """One thing that is waited for; the first of several to come ends the wait."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: WaitKind
    key: str | None = Field(default=None, min_length=1, max_length=255)
    """Which of that kind, where there may be several: an input's id, an execution's id, …"""
    until: AwareDatetime | None = None
    """When the wait is over though nothing came, by the server's clock; a `time` has nothing but that."""
    detail: str | None = Field(default=None, max_length=500)
    """Why that is waited for, for a person: how a model failed last."""


@dataclass(frozen=True, slots=True)
class WaitEnd:
    """The event that ends a wait."""

    event_type: str
    key_field: str | None = None
    """The event's field that is the reason's `key`; None where the kind has no key."""


ENDED_BY: Final[Mapping[WaitKind, WaitEnd]] = {
    WaitKind.APPROVAL: WaitEnd("input.resolved", "input_id"),
    WaitKind.ANSWER: WaitEnd("input.resolved", "input_id"),
    WaitKind.MESSAGE: WaitEnd("message.received"),
    WaitKind.MODEL: WaitEnd("execution.retried"),
    WaitKind.PAUSE: WaitEnd("execution.resumed"),
}
"""Kinds that are not here end by their time alone."""
WAKING_EVENT_TYPES: Final = frozenset(end.event_type for end in ENDED_BY.values())


def ends_wait(event_type: str, event: BaseModel, reason: WaitReason) -> bool:
    """Whether the event is what the reason waits for."""
    end = ENDED_BY.get(reason.kind)
    if end is None or end.event_type != event_type:
        return False
    return end.key_field is None or getattr(event, end.key_field) == reason.key


def can_end(reason: WaitReason) -> bool:
    """Whether anything would ever end the wait."""
    return reason.until is not None or reason.kind in ENDED_BY


def first_time(reasons: list[WaitReason]) -> datetime | None:
    """When the first of the waits is over though nothing came; None where none ever is."""
    return min((reason.until for reason in reasons if reason.until is not None), default=None)
