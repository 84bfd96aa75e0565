"""Executions as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Protocol

from stigmer_cli.rendering.quantities import format_age, format_cost, format_count, format_seconds
from stigmer_cli.rendering.tables import print_table
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.wait_kinds import WaitKind


class ShownWait(Protocol):
    """What is shown of a wait, by the names that `WaitReason` has for it."""

    @property
    def kind(self) -> WaitKind: ...
    @property
    def key(self) -> str | None: ...
    @property
    def until(self) -> datetime | None: ...
    @property
    def detail(self) -> str | None: ...


class ShownUsage(Protocol):
    """As `Usage`."""

    @property
    def requests(self) -> int: ...
    @property
    def total_tokens(self) -> int: ...
    @property
    def cost_usd(self) -> Decimal | None: ...


class ShownError(Protocol):
    """As `ExecutionError`."""

    @property
    def code(self) -> str: ...


class ShownExecution(Protocol):
    """As `ExecutionResource`, whose import takes longer than all that a list does."""

    @property
    def execution_id(self) -> str: ...
    @property
    def agent_name(self) -> str: ...
    @property
    def input_head(self) -> str | None: ...
    @property
    def phase(self) -> ExecutionPhase: ...
    @property
    def pending_reason(self) -> str | None: ...
    @property
    def standing_reason(self) -> str | None: ...
    @property
    def waiting_for(self) -> Sequence[ShownWait]: ...
    @property
    def cancel_requested(self) -> bool: ...
    @property
    def usage(self) -> ShownUsage: ...
    @property
    def error(self) -> ShownError | None: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def ended_at(self) -> datetime | None: ...
    @property
    def paused_at(self) -> datetime | None: ...


SHOWN_ID_CHARACTERS = 6
"""Of an id's end: the beginnings of one day's ids are alike."""


def print_executions(executions: Sequence[ShownExecution]) -> None:
    """Writes the table to stdout."""
    now = datetime.now(UTC)
    print_table(
        ["EXECUTION", "AGENT", "PHASE", "CREATED", "TIME", "TURNS", "TOKENS", "COST", "PROMPT"],
        [_row(execution, now) for execution in executions],
        long="PROMPT",
        optional=["TOKENS", "TURNS", "TIME", "COST", "CREATED"],
        empty="no executions; `stigmer run` makes one",
    )


def describe_phase(execution: ShownExecution) -> str:
    """The phase, with what the person should know beside it."""
    if execution.paused_at is not None and not execution.phase.is_terminal:
        others = [reason for reason in execution.waiting_for if reason.kind is not WaitKind.PAUSE]
        return f"paused, waiting for {describe_waits(others)}" if others else "paused"
    if execution.waiting_for:
        return f"{execution.phase} for {describe_waits(execution.waiting_for)}"
    if reason := execution.standing_reason or execution.pending_reason:
        return f"{execution.phase} ({reason})"
    if execution.error:
        return f"{execution.phase} ({execution.error.code})"
    if execution.cancel_requested and not execution.phase.is_terminal:
        return f"{execution.phase} (cancelling)"
    return execution.phase


def describe_waits(reasons: Sequence[ShownWait]) -> str:
    """What is waited for, such as `2 approvals`, or `a message, or until 2026-11-26 14:00 UTC`."""
    alike = Counter(_describe_wait(reason) for reason in reasons)
    return ", or ".join(
        f"{count} {_SEVERAL[said]}" if count > 1 and said in _SEVERAL else said
        for said, count in alike.items()
    )


def _describe_wait(reason: ShownWait) -> str:
    until = "" if reason.until is None else f"until {reason.until.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    what = "" if reason.kind is WaitKind.TIME else _WAITS[reason.kind]
    if reason.kind is WaitKind.MODEL:
        what = f"{what} {reason.key or ''}".rstrip()
    why = f"({reason.detail})" if reason.detail else ""
    return " ".join(part for part in (what, until, why) if part)


_WAITS = {
    WaitKind.APPROVAL: "an approval",
    WaitKind.ANSWER: "an answer",
    WaitKind.CHILD: "another execution",
    WaitKind.MESSAGE: "a message",
    WaitKind.MODEL: "model",
    WaitKind.SUBMITTED: "a submitted request",
    WaitKind.PAUSE: "somebody to resume it",
}
_SEVERAL = {"an approval": "approvals", "an answer": "answers"}


def _row(execution: ShownExecution, now: datetime) -> list[str]:
    usage = execution.usage
    seconds = ((execution.ended_at or now) - execution.created_at).total_seconds()
    return [
        execution.execution_id[-SHOWN_ID_CHARACTERS:],
        execution.agent_name,
        describe_phase(execution),
        format_age(execution.created_at, now),
        format_seconds(max(0.0, seconds)),
        str(usage.requests),
        format_count(usage.total_tokens),
        format_cost(usage.cost_usd) if usage.cost_usd is not None else "",
        execution.input_head or "",
    ]
