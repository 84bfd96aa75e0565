"""What a log says about its execution, as a pure function of its events. No I/O.

Decides which event may follow; who may write it is `executions`' business.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, assert_never

from pydantic import TypeAdapter
from sqlalchemy import Row

from stigmer_contract.api import ADMINISTRATOR, ExecutionError, ExecutionResource
from stigmer_contract.events import (
    ArtifactsCollected,
    EnvironmentDescribed,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionPaused,
    ExecutionResumed,
    ExecutionRetried,
    ExecutionStarted,
    GrantRevoked,
    HistoryRepaired,
    HistoryStored,
    InputReminded,
    InputRequested,
    InputResolved,
    LegEnded,
    LegEndReason,
    LegLost,
    LegStarted,
    MessageReceived,
    ModelFailed,
    ModelInterrupted,
    ModelResponded,
    Payload,
    RequestChanged,
    SnapshotSkipped,
    SnapshotTaken,
    StepFinished,
    ToolFinished,
    ToolsChanged,
    ToolStarted,
    Usage,
    WorkspaceWarned,
)
from stigmer_contract.inputs import MAX_OPEN_INPUTS, OpenInput
from stigmer_contract.manifest import Limits
from stigmer_contract.phases import ExecutionPhase, is_legal_move
from stigmer_contract.waits import WAKING_EVENT_TYPES, WaitKind, WaitReason, can_end, ends_wait, first_time
from stigmer_server.errors import IllegalMove, Woken
from stigmer_server.lost_legs import MAX_LOST_LEGS, LostLeg

_PAYLOAD: TypeAdapter[Payload] = TypeAdapter(Payload)
_REASONS: TypeAdapter[list[WaitReason]] = TypeAdapter(list[WaitReason])
_OPEN_INPUTS: TypeAdapter[tuple[OpenInput, ...]] = TypeAdapter(tuple[OpenInput, ...])
_LOST_LEGS: TypeAdapter[tuple[LostLeg, ...]] = TypeAdapter(tuple[LostLeg, ...])

NOTHING_USED: Final = Usage()
NANOS: Final = 1_000_000_000
CHANGING_COLUMNS: Final = (
    "phase",
    "attempt",
    "last_sequence",
    "usage",
    "cost_nanos",
    "output",
    "error",
    "cancel_requested_at",
    "cancel_reason",
    "started_at",
    "ended_at",
    "deadline_at",
    "uncounted_since",
    "task_queue",
    "leg_task_queue",
    "waiting_for",
    "waiting_since",
    "wake_at",
    "woken_sequence",
    "message_sequence",
    "leg_runner",
    "leg_task_token",
    "lost_legs",
    "token_id",
    "retried_at",
    "limits",
    "open_inputs",
    "paused_at",
)
"""Columns of `executions` that change after its first event."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was written down."""

    wall: datetime
    """As people tell it; a wall clock may be set anew at any time."""
    steady: datetime
    """As the steady clock gives it: what went by between two of them went by."""


@dataclass(frozen=True, slots=True)
class WorkflowName:
    """What Temporal calls an execution's workflow."""

    execution_id: str
    workflow_id: str
    task_queue: str | None
    """None: the one that the server is set to."""
    leg_task_queue: str | None = None
    """None: legs run where the workflow does."""


@dataclass(frozen=True, slots=True)
class ExecutionState:
    """A row of `executions`."""

    execution_id: str
    session_id: str
    agent_name: str
    model: str | None
    created_at: datetime
    deadline_at: datetime | None
    """End of `limits.duration` by the steady clock, if it waits no more; time that it waits is added."""
    input_head: str | None = None
    """As `head_of` gives it."""
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
    waiting_for: Sequence[WaitReason] = ()
    """Empty unless the phase is waiting."""
    waiting_since: datetime | None = None
    uncounted_since: datetime | None = None
    """By the steady clock: since then it waits, or has failed, and `limits.duration` stands still."""
    wake_at: datetime | None = None
    """When the next leg is due: the first time of `waiting_for`, or when something woke it; None while a leg
    has begun since, and where only an event can wake it."""
    woken_sequence: int = 0
    """The newest event that may end a wait, whether anything waited for it or not."""
    message_sequence: int = 0
    """The newest message to it."""
    leg_runner: str | None = None
    """Who has the newest leg in hand; None: it is over."""
    leg_task_token: str | None = None
    """Ends that leg's activity at Temporal; base64."""
    lost_legs: tuple[LostLeg, ...] = ()
    """Legs that were lost one after the other, up to the newest, without a step between them."""
    workflow_id: str | None = None
    """None: the execution's id."""
    task_queue: str | None = None
    """Of the workflow; None: the server's."""
    owner: str = ADMINISTRATOR
    token_id: str | None = None
    """Of the token that started it, or retried it last, whose policy holds for it."""
    leg_task_queue: str | None = None
    """Of its legs: its session's placement; None: where the workflow runs."""
    retried_at: datetime | None = None
    limits: Limits | None = None
    """Since it was retried; None: those of its agent."""
    open_inputs: tuple[OpenInput, ...] = ()
    """What it asks of people, and nobody has resolved; in the order in which it asked."""
    paused_at: datetime | None = None
    """While it is paused nothing wakes it but that it is resumed."""

    @classmethod
    def from_row(cls, row: Row[Any]) -> "ExecutionState":
        """Read a row with all columns of `executions`."""
        return cls(
            execution_id=row.execution_id,
            session_id=row.session_id,
            agent_name=row.agent_name,
            model=row.model,
            input_head=row.input_head,
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
            waiting_for=() if row.waiting_for is None else tuple(_REASONS.validate_json(row.waiting_for)),
            waiting_since=row.waiting_since,
            uncounted_since=row.uncounted_since,
            wake_at=row.wake_at,
            woken_sequence=row.woken_sequence,
            message_sequence=row.message_sequence,
            leg_runner=row.leg_runner,
            leg_task_token=row.leg_task_token,
            lost_legs=() if row.lost_legs is None else _LOST_LEGS.validate_json(row.lost_legs),
            workflow_id=row.workflow_id,
            task_queue=row.task_queue,
            owner=row.owner,
            token_id=row.token_id,
            leg_task_queue=row.leg_task_queue,
            retried_at=row.retried_at,
            limits=None if row.limits is None else Limits.model_validate_json(row.limits),
            open_inputs=() if row.open_inputs is None else _OPEN_INPUTS.validate_json(row.open_inputs),
            paused_at=row.paused_at,
        )

    @property
    def waits_for_model(self) -> bool:
        """Whether a model that is away is all that it waits for, or some of it."""
        return any(reason.kind is WaitKind.MODEL for reason in self.waiting_for)

    @property
    def begins_again(self) -> bool:
        """Whether it was retried and no leg has begun since: how its workflow ended before says nothing."""
        return self.retried_at is not None and self.wake_at == self.retried_at

    @property
    def workflow(self) -> WorkflowName:
        """Under which names it was started at Temporal, or is to be."""
        workflow_id = self.workflow_id or self.execution_id
        return WorkflowName(self.execution_id, workflow_id, self.task_queue, self.leg_task_queue)

    def to_row(self) -> dict[str, Any]:
        """Values for all columns of `executions`."""
        return {
            "execution_id": self.execution_id,
            "session_id": self.session_id,
            "agent_name": self.agent_name,
            "model": self.model,
            "input_head": self.input_head,
            "created_at": self.created_at,
            "deadline_at": self.deadline_at,
            "place": self.place,
            "phase": self.phase.value,
            "attempt": self.attempt,
            "last_sequence": self.last_sequence,
            "usage": self.usage.model_dump_json(),
            "cost_nanos": nanos_of(self.usage.cost_usd),
            "output": None if self.output is None else self.output.model_dump_json(),
            "error": None if self.error is None else self.error.model_dump_json(),
            "cancel_requested_at": self.cancel_requested_at,
            "cancel_reason": self.cancel_reason,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "waiting_for": _REASONS.dump_json(list(self.waiting_for)).decode() if self.waiting_for else None,
            "waiting_since": self.waiting_since,
            "uncounted_since": self.uncounted_since,
            "wake_at": self.wake_at,
            "woken_sequence": self.woken_sequence,
            "message_sequence": self.message_sequence,
            "leg_runner": self.leg_runner,
            "leg_task_token": self.leg_task_token,
            "lost_legs": _LOST_LEGS.dump_json(self.lost_legs).decode() if self.lost_legs else None,
            "workflow_id": self.workflow_id,
            "task_queue": self.task_queue,
            "owner": self.owner,
            "token_id": self.token_id,
            "leg_task_queue": self.leg_task_queue,
            "retried_at": self.retried_at,
            "limits": None if self.limits is None else self.limits.model_dump_json(by_alias=True),
            "open_inputs": _OPEN_INPUTS.dump_json(self.open_inputs).decode() if self.open_inputs else None,
            "paused_at": self.paused_at,
        }

    def to_resource(
        self, pending_reason: str | None = None, standing_reason: str | None = None
    ) -> ExecutionResource:
        """The execution as callers see it. `pending_reason` counts only while it is pending."""
        return ExecutionResource(
            execution_id=self.execution_id,
            session_id=self.session_id,
            owner=self.owner,
            agent_name=self.agent_name,
            model=self.model,
            input_head=self.input_head,
            phase=self.phase,
            pending_reason=pending_reason if self.phase is ExecutionPhase.PENDING else None,
            standing_reason=standing_reason,
            waiting_for=list(self.waiting_for),
            attempt=self.attempt,
            last_sequence=self.last_sequence,
            cancel_requested=self.cancel_requested_at is not None,
            usage=self.usage,
            output=self.output,
            error=self.error,
            created_at=self.created_at,
            started_at=self.started_at,
            ended_at=self.ended_at,
            retried_at=self.retried_at,
            paused_at=self.paused_at,
        )


def nanos_of(cost_usd: Decimal | None) -> int | None:
    """A cost as databases add it up and compare it: in US dollars x 10^9."""
    return None if cost_usd is None else round(cost_usd * NANOS)


def advance(state: ExecutionState, events: Sequence[Event], at: Moment) -> ExecutionState:
    """The state after some more events.

    Raises:
        IllegalMove: one of them cannot follow what is there.
        Woken: a leg would wait, or complete the execution, but something has come that it does not know.
    """
    for event in events:
        if state.phase.is_terminal and not isinstance(event, ExecutionRetried):
            raise IllegalMove(event.type, "cannot follow the event that ended the execution")
        state = _advance_legs(_advance_by_one(state, event, at), event, at)
        state = replace(state, last_sequence=state.last_sequence + 1)
        if event.type in WAKING_EVENT_TYPES:
            state = _wake(replace(state, woken_sequence=state.last_sequence), event, at)
    return state


def _advance_by_one(state: ExecutionState, event: Event, at: Moment) -> ExecutionState:
    match event:
        case ExecutionStarted():
            raise IllegalMove(event.type, "can only be the first of a log")
        case LegStarted(attempt=attempt):
            state = _end_wait(state, at)
            state = _move(state, event, ExecutionPhase.IN_PROGRESS)
            started_at = state.started_at or at.wall
            return replace(state, attempt=attempt, started_at=started_at, wake_at=None)
        case LegEnded(reason=LegEndReason.WAITING):
            return _begin_wait(state, event, at)
        case LegEnded(reason=LegEndReason.COMPLETED, seen=int(seen)) if state.message_sequence > seen:
            raise Woken(seen, state.message_sequence)
        case MessageReceived():
            return replace(state, message_sequence=state.last_sequence + 1)
        case ModelResponded(usage=usage) | ModelInterrupted(usage=usage):
            return replace(state, usage=state.usage + usage)
        case StepFinished(usage=usage):
            return state if usage is None else replace(state, usage=state.usage + usage)
        case ExecutionCompleted(output=output):
            state = _move(state, event, ExecutionPhase.COMPLETED)
            return replace(state, output=output, ended_at=at.wall)
        case ExecutionFailed(code=code, message=message, hint=hint):
            state = _end_wait(state, at)
            state = _move(state, event, ExecutionPhase.FAILED)
            error = ExecutionError(code=code, message=message, hint=hint)
            return replace(state, error=error, ended_at=at.wall, uncounted_since=at.steady)
        case ExecutionRetried():
            return _retry(state, event, at)
        case ExecutionPaused():
            return replace(state, paused_at=at.wall)
        case ExecutionResumed():
            return replace(state, paused_at=None)
        case InputRequested():
            return _ask(state, event)
        case InputResolved():
            return _resolve(state, event)
        case InputReminded():
            return _remind(state, event)
        case ExecutionCancelled():
            state = _end_wait(state, at)
            state = _move(state, event, ExecutionPhase.CANCELLED)
            return replace(state, ended_at=at.wall)
        case (
            LegEnded()
            | LegLost()
            | ModelFailed()
            | HistoryRepaired()
            | ToolStarted()
            | ToolFinished()
            | HistoryStored()
            | EnvironmentDescribed()
            | RequestChanged()
            | ToolsChanged()
            | GrantRevoked()
            | WorkspaceWarned()
            | ArtifactsCollected()
            | SnapshotTaken()
            | SnapshotSkipped()
        ):
            return state
        case _:
            assert_never(event)


def _advance_legs(state: ExecutionState, event: Event, at: Moment) -> ExecutionState:
    """What an event says of legs: who has one in hand, and which were lost without getting any further."""
    match event:
        case LegStarted(runner=runner):
            return replace(state, leg_runner=runner)
        case LegLost(runner=runner, cause=cause, how=how):
            lost = (*state.lost_legs, LostLeg(runner, cause, at.wall, how))[-MAX_LOST_LEGS:]
            return replace(state, leg_runner=None, lost_legs=lost)
        case LegEnded():
            return replace(state, leg_runner=None, leg_task_token=None, lost_legs=())
        case MessageReceived() | InputResolved() | RequestChanged() | EnvironmentDescribed():
            return state
        case SnapshotTaken() | SnapshotSkipped():  # each leg begins with one, if it only comes to that
            return state
        case ExecutionPaused() | ExecutionResumed() | InputReminded() | GrantRevoked():
            return state
        case _ if state.phase.is_terminal:
            return replace(state, leg_runner=None, leg_task_token=None)
        case _:
            return replace(state, lost_legs=()) if state.lost_legs else state


def _move(state: ExecutionState, event: Event, phase: ExecutionPhase) -> ExecutionState:
    if not is_legal_move(state.phase, phase):
        raise IllegalMove(event.type, f"cannot follow while the execution is {state.phase}")
    return replace(state, phase=phase)


def _begin_wait(state: ExecutionState, event: LegEnded, at: Moment) -> ExecutionState:
    """The leg ends, and nothing works on the execution until one of the reasons has come."""
    if not event.waiting_for or event.seen is None:
        raise IllegalMove(event.type, "waits, and does not say for what, or how far it knows the log")
    for reason in event.waiting_for:
        if not can_end(reason):
            raise IllegalMove(event.type, f"waits for {reason.kind}, which nothing would ever end")
    if event.seen > state.last_sequence:
        raise IllegalMove(
            event.type, f"knows the log up to {event.seen}, which ends at {state.last_sequence}"
        )
    if state.woken_sequence > event.seen:
        raise Woken(event.seen, state.woken_sequence)
    if state.cancel_requested_at is not None:
        raise IllegalMove(event.type, "cannot wait: the execution is to be cancelled")
    state = _move(state, event, ExecutionPhase.WAITING)
    reasons = event.waiting_for
    return replace(
        state,
        waiting_for=tuple(reasons),
        waiting_since=at.wall,
        uncounted_since=at.steady,
        wake_at=first_time(reasons),
    )


def _retry(state: ExecutionState, event: ExecutionRetried, at: Moment) -> ExecutionState:
    """Go on after a failure, or wait no more for a model (which `_wake` sees to).

    The attempt counts up, so that a runner of before, which may not know of the end, writes nothing more. The
    time that went by since the end does not count towards `limits.duration`.
    """
    state = replace(state, retried_at=at.wall, limits=event.limits or state.limits)
    if state.waits_for_model:
        return state
    if state.phase is not ExecutionPhase.FAILED:
        raise IllegalMove(event.type, f"cannot follow while the execution is {state.phase}")
    idle = max(_uncounted(state, at, at.wall - (state.ended_at or at.wall)), timedelta())
    return replace(
        _move(state, event, ExecutionPhase.IN_PROGRESS),
        attempt=state.attempt + 1,
        error=None,
        ended_at=None,
        cancel_requested_at=None,
        cancel_reason=None,
        deadline_at=None if state.deadline_at is None else state.deadline_at + idle,
        uncounted_since=None,
        wake_at=at.wall,
        leg_runner=None,
        leg_task_token=None,
        lost_legs=(),
        paused_at=None,
    )


def _ask(state: ExecutionState, event: InputRequested) -> ExecutionState:
    if any(each.input_id == event.input_id for each in state.open_inputs):
        raise IllegalMove(event.type, f"asks {event.input_id} again")
    if len(state.open_inputs) >= MAX_OPEN_INPUTS:
        raise IllegalMove(event.type, f"cannot be one more: {MAX_OPEN_INPUTS} are open")
    asked = OpenInput(input_id=event.input_id, sequence=state.last_sequence + 1)
    return replace(state, open_inputs=(*state.open_inputs, asked))


def _remind(state: ExecutionState, event: InputReminded) -> ExecutionState:
    """Of an input that is open, and of which nobody was reminded before."""
    found = [each for each in state.open_inputs if each.input_id == event.input_id]
    if not found or found[0].is_reminded:
        raise IllegalMove(event.type, f"reminds of {event.input_id}, which does not wait for that")
    reminded = found[0].model_copy(update={"is_reminded": True})
    others = (reminded if each is found[0] else each for each in state.open_inputs)
    return replace(state, open_inputs=tuple(others))


def _resolve(state: ExecutionState, event: InputResolved) -> ExecutionState:
    """The first that resolves an input holds; nothing that comes later can follow."""
    left = tuple(each for each in state.open_inputs if each.input_id != event.input_id)
    if len(left) == len(state.open_inputs):
        raise IllegalMove(event.type, f"cannot resolve {event.input_id}, which is not open")
    return replace(state, open_inputs=left)


def _wake(state: ExecutionState, event: Event, at: Moment) -> ExecutionState:
    """The next leg is due at once, where the execution waits for this event."""
    if isinstance(event, ExecutionResumed):
        is_due = bool(state.waiting_for)  # whatever came meanwhile, the next leg finds
    else:
        is_due = any(ends_wait(event.type, event, reason) for reason in state.waiting_for)
    if not is_due or state.paused_at is not None:
        return state
    state = _move(_end_wait(state, at), event, ExecutionPhase.IN_PROGRESS)
    return replace(state, wake_at=at.wall)


def _end_wait(state: ExecutionState, at: Moment) -> ExecutionState:
    """Wait no more. The time that went by does not count towards `limits.duration`."""
    if state.waiting_since is None:
        return state
    waited = _uncounted(state, at, at.wall - state.waiting_since)
    if state.wake_at is not None:
        waited = min(waited, state.wake_at - state.waiting_since)
    waited = max(waited, timedelta())
    deadline_at = None if state.deadline_at is None else state.deadline_at + waited
    return replace(
        state,
        waiting_for=(),
        waiting_since=None,
        uncounted_since=None,
        wake_at=None,
        deadline_at=deadline_at,
    )


def _uncounted(state: ExecutionState, at: Moment, by_wall_clock: timedelta) -> timedelta:
    """For how long `limits.duration` stood still; by the wall clock where an older server let it begin to."""
    return by_wall_clock if state.uncounted_since is None else at.steady - state.uncounted_since
