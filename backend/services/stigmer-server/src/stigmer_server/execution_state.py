"""What a log says about its execution, as a pure function of its events. No I/O.

Decides which event may follow; who may write it is `executions`' business.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, assert_never

from pydantic import TypeAdapter
from sqlalchemy import Row

from stigmer_contract.api import ExecutionError, ExecutionResource
from stigmer_contract.events import (
    ApprovalRequested,
    ApprovalResolved,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionStarted,
    LegEnded,
    LegStarted,
    MessageReceived,
    ModelResponded,
    Payload,
    RequestChanged,
    StepFinished,
    ToolFinished,
    ToolStarted,
    Usage,
)
from stigmer_contract.phases import ExecutionPhase, is_legal_move
from stigmer_server.errors import IllegalMove

_PAYLOAD: TypeAdapter[Payload] = TypeAdapter(Payload)

NOTHING_USED: Final = Usage()
CHANGING_COLUMNS: Final = (
    "phase",
    "attempt",
    "last_sequence",
    "usage",
    "output",
    "error",
    "cancel_requested_at",
    "cancel_reason",
    "started_at",
    "ended_at",
)
"""Columns of `executions` that change after its first event."""


@dataclass(frozen=True, slots=True)
class ExecutionState:
    """A row of `executions`."""

    execution_id: str
    session_id: str
    agent_name: str
    model: str | None
    created_at: datetime
    deadline_at: datetime | None
    """When `limits.duration` is over."""
    place: int = 1
    """In its session, from 1."""
    phase: ExecutionPhase = ExecutionPhase.PENDING
    attempt: int = 0
    last_sequence: int = 1
    usage: Usage = NOTHING_USED
    output: Payload | None = None
    error: ExecutionError | None = None
    cancel_requested_at: datetime | None = None
    cancel_reason: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @classmethod
    def from_row(cls, row: Row[Any]) -> "ExecutionState":
        """Read a row with all columns of `executions`."""
        return cls(
            execution_id=row.execution_id,
            session_id=row.session_id,
            agent_name=row.agent_name,
            model=row.model,
            created_at=row.created_at,
            deadline_at=row.deadline_at,
            place=row.place,
            phase=ExecutionPhase(row.phase),
            attempt=row.attempt,
            last_sequence=row.last_sequence,
            usage=Usage.model_validate_json(row.usage),
            output=None if row.output is None else _PAYLOAD.validate_json(row.output),
            error=None if row.error is None else ExecutionError.model_validate_json(row.error),
            cancel_requested_at=row.cancel_requested_at,
            cancel_reason=row.cancel_reason,
            started_at=row.started_at,
            ended_at=row.ended_at,
        )

    def to_row(self) -> dict[str, Any]:
        """Values for all columns of `executions`."""
        return {
            "execution_id": self.execution_id,
            "session_id": self.session_id,
            "agent_name": self.agent_name,
            "model": self.model,
            "created_at": self.created_at,
            "deadline_at": self.deadline_at,
            "place": self.place,
            "phase": self.phase.value,
            "attempt": self.attempt,
            "last_sequence": self.last_sequence,
            "usage": self.usage.model_dump_json(),
            "output": None if self.output is None else self.output.model_dump_json(),
            "error": None if self.error is None else self.error.model_dump_json(),
            "cancel_requested_at": self.cancel_requested_at,
            "cancel_reason": self.cancel_reason,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
        }

    def to_resource(self, pending_reason: str | None = None) -> ExecutionResource:
        """The execution as callers see it. `pending_reason` counts only while it is pending."""
        return ExecutionResource(
            execution_id=self.execution_id,
            session_id=self.session_id,
            agent_name=self.agent_name,
            model=self.model,
            phase=self.phase,
            pending_reason=pending_reason if self.phase is ExecutionPhase.PENDING else None,
            attempt=self.attempt,
            last_sequence=self.last_sequence,
            cancel_requested=self.cancel_requested_at is not None,
            usage=self.usage,
            output=self.output,
            error=self.error,
            created_at=self.created_at,
            started_at=self.started_at,
            ended_at=self.ended_at,
        )


def advance(state: ExecutionState, events: Sequence[Event], recorded_at: datetime) -> ExecutionState:
    """The state after some more events.

    Raises:
        IllegalMove: one of them cannot follow what is there.
    """
    for event in events:
        if state.phase.is_terminal:
            raise IllegalMove(event.type, "cannot follow the event that ended the execution")
        state = _advance_by_one(state, event, recorded_at)
    return replace(state, last_sequence=state.last_sequence + len(events))


def _advance_by_one(state: ExecutionState, event: Event, recorded_at: datetime) -> ExecutionState:
    match event:
        case ExecutionStarted():
            raise IllegalMove(event.type, "can only be the first of a log")
        case LegStarted(attempt=attempt):
            started_at = state.started_at or recorded_at
            # An approval that is waited for outlives the leg that asked for it.
            phase = ExecutionPhase.IN_PROGRESS if state.phase is ExecutionPhase.PENDING else state.phase
            return replace(state, phase=phase, attempt=attempt, started_at=started_at)
        case ApprovalRequested():
            return _move(state, event, ExecutionPhase.WAITING_FOR_APPROVAL)
        case ApprovalResolved():
            return _move(state, event, ExecutionPhase.IN_PROGRESS)
        case ModelResponded(usage=usage):
            return replace(state, usage=state.usage + usage)
        case StepFinished(usage=usage):
            return state if usage is None else replace(state, usage=state.usage + usage)
        case ExecutionCompleted(output=output):
            state = _move(state, event, ExecutionPhase.COMPLETED)
            return replace(state, output=output, ended_at=recorded_at)
        case ExecutionFailed(code=code, message=message, hint=hint):
            state = _move(state, event, ExecutionPhase.FAILED)
            error = ExecutionError(code=code, message=message, hint=hint)
            return replace(state, error=error, ended_at=recorded_at)
        case ExecutionCancelled():
            state = _move(state, event, ExecutionPhase.CANCELLED)
            return replace(state, ended_at=recorded_at)
        case LegEnded() | ToolStarted() | ToolFinished() | RequestChanged() | MessageReceived():
            return state
        case _:
            assert_never(event)


def _move(state: ExecutionState, event: Event, phase: ExecutionPhase) -> ExecutionState:
    if not is_legal_move(state.phase, phase):
        raise IllegalMove(event.type, f"cannot follow while the execution is {state.phase}")
    return replace(state, phase=phase)
