"""What becomes of an execution that a runner takes: one attempt more, or its end where it only kills runners.
Or the runner waits for another one, which finishes its step.

Decisions over the execution's state, made once what they depend on is known; taking the same leg again is the
log's own business (`append_id`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from stigmer_contract.api import StartLeg
from stigmer_contract.events import LOG_FORMAT, LegLossCause, LegLost, LegStarted
from stigmer_server.errors import CallRefused, ExecutionEnded, LegInHand, RunnerTooOld
from stigmer_server.event_log import Appended, Change, EventLog, NewEvent
from stigmer_server.execution_state import ExecutionState
from stigmer_server.leg_holds import LegHolds
from stigmer_server.lost_legs import MAX_DEATHS, LostLeg, reason_to_give_up
from stigmer_server.runner_presence import RunnerPresence


class HoldNeeded(CallRefused):
    """Whether to go on depends on whether the other runner holds its leg; never leaves the server."""

    def __init__(self) -> None:
        super().__init__("it is not known yet whether the other runner works on")


class PresenceNeeded(CallRefused):
    """Whether to go on depends on who was heard from; never leaves the server."""

    def __init__(self, runners: frozenset[str]) -> None:
        super().__init__("it is not known yet which runners were heard from")
        self.runners = runners


def leg_append_id(runner: str, key: str) -> str:
    """Under which the log keeps the start of a leg, so that it is granted once only."""
    digest = hashlib.sha256("\n".join((runner, key)).encode()).hexdigest()
    return f"leg-{digest[:56]}"


async def take_leg(
    execution_id: str, request: StartLeg, log: EventLog, holds: LegHolds, presence: RunnerPresence
) -> Appended:
    """Give the execution to a runner, asking for what that depends on only where it does.

    Raises:
        NotFound: there is no such execution.
        LegInHand: another runner finishes its step, and is told that it is waited for.
        ExecutionEnded: there is nothing left to do.
        RunnerTooOld: the runner does not read the log's newest form.
        Unavailable: the database does not answer.
    """
    append_id = None if request.key is None else leg_append_id(request.runner, request.key)
    known = Known()
    while True:
        start = partial(start_leg, request=request, known=known)
        try:
            return await log.append(execution_id, start, append_id)
        except HoldNeeded:
            known = replace(known, held=(await holds.find(execution_id),))
        except PresenceNeeded as needed:
            known = replace(known, heard_at=await presence.find(needed.runners))
        except LegInHand:
            await holds.want(execution_id)
            raise


@dataclass(frozen=True, slots=True)
class Known:
    """What was asked for so far."""

    held: tuple[int | None] | None = None
    """The attempt that its runner holds, or None where none is held."""
    heard_at: Mapping[str, datetime] | None = None
    """When other runners were heard from last."""


def start_leg(state: ExecutionState, request: StartLeg, known: Known) -> Change:
    """Give the execution to a runner.

    Args:
        state: of the execution.
        request: the runner's.
        known: what it may depend on.

    Raises:
        LegInHand: another runner finishes its step, and gives the execution back then.
        ExecutionEnded: there is nothing left to do.
        RunnerTooOld: the runner does not read the log's newest form.
        HoldNeeded: `held` must be known.
        PresenceNeeded: `heard_at` must be known.
    """
    if state.phase.is_terminal:
        raise ExecutionEnded(state.execution_id, state.phase)
    if request.log_format < LOG_FORMAT:
        raise RunnerTooOld(request.runner, request.runner_version)
    if state.leg_runner not in (None, request.runner):
        if known.held is None:
            raise HoldNeeded
        if known.held == (state.attempt,):
            raise LegInHand(state.execution_id, state.leg_runner)
    new_events = list[NewEvent]()
    lost = state.lost_legs
    if state.leg_runner is not None:
        is_same = state.leg_runner == request.runner
        cause = LegLossCause.TAKEN_AGAIN if is_same else LegLossCause.RUNNER_SILENT
        loss = LegLost(attempt=state.attempt, runner=state.leg_runner, cause=cause)
        new_events.append(NewEvent.of(loss, is_servers=True))
        lost = (*lost, LostLeg(loss.runner, cause, datetime.now(UTC)))
    if len(lost) >= MAX_DEATHS and known.heard_at is None:
        raise PresenceNeeded(frozenset(leg.runner for leg in lost))
    end = reason_to_give_up(lost, known.heard_at or {})
    if end is not None:
        return Change(state, [*new_events, NewEvent.of(end, is_servers=True)])
    attempt = state.attempt + 1
    started = LegStarted(attempt=attempt, runner=request.runner, runner_version=request.runner_version)
    state = replace(state, leg_task_token=request.task_token)
    return Change(state, [*new_events, NewEvent.of(started)], attempt)
