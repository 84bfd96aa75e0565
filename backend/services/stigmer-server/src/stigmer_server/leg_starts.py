"""What becomes of an execution that a runner takes: one attempt more, or its end where it only kills runners.
Or the runner waits for another one, which finishes its step.

Pure decisions over the execution's state; taking the same leg again is the log's own business (`append_id`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from stigmer_contract.api import StartLeg
from stigmer_contract.events import LOG_FORMAT, LegLossCause, LegLost, LegStarted
from stigmer_server.errors import CallRefused, ExecutionEnded, LegInHand, RunnerTooOld
from stigmer_server.event_log import Change, NewEvent
from stigmer_server.execution_state import ExecutionState
from stigmer_server.leg_holds import LegHolds
from stigmer_server.lost_legs import MAX_DEATHS, LostLeg, reason_to_give_up


class PresenceNeeded(CallRefused):
    """Whether to go on depends on who was heard from; never leaves the server."""

    def __init__(self, runners: frozenset[str]) -> None:
        super().__init__("it is not known yet which runners were heard from")
        self.runners = runners


def leg_append_id(runner: str, key: str) -> str:
    """Under which the log keeps the start of a leg, so that it is granted once only."""
    digest = hashlib.sha256("\n".join((runner, key)).encode()).hexdigest()
    return f"leg-{digest[:56]}"


def start_leg(
    state: ExecutionState, request: StartLeg, holds: LegHolds, heard_at: Mapping[str, datetime] | None
) -> Change:
    """Give the execution to a runner.

    Args:
        state: of the execution.
        request: the runner's.
        holds: the legs that their runners hold.
        heard_at: when other runners were heard from last; None: not known yet.

    Raises:
        LegInHand: another runner finishes its step, and gives the execution back then.
        ExecutionEnded: there is nothing left to do.
        RunnerTooOld: the runner does not read the log's newest form.
        PresenceNeeded: `heard_at` must be known.
    """
    if state.phase.is_terminal:
        raise ExecutionEnded(state.execution_id, state.phase)
    if request.log_format < LOG_FORMAT:
        raise RunnerTooOld(request.runner, request.runner_version)
    if state.leg_runner not in (None, request.runner) and holds.is_held(state.execution_id, state.attempt):
        raise LegInHand(state.execution_id, state.leg_runner)
    new_events = list[NewEvent]()
    lost = state.lost_legs
    if state.leg_runner is not None:
        is_same = state.leg_runner == request.runner
        cause = LegLossCause.TAKEN_AGAIN if is_same else LegLossCause.RUNNER_SILENT
        loss = LegLost(attempt=state.attempt, runner=state.leg_runner, cause=cause)
        new_events.append(NewEvent.of(loss, is_servers=True))
        lost = (*lost, LostLeg(loss.runner, cause, datetime.now(UTC)))
    if len(lost) >= MAX_DEATHS and heard_at is None:
        raise PresenceNeeded(frozenset(leg.runner for leg in lost))
    end = reason_to_give_up(lost, heard_at or {})
    if end is not None:
        return Change(state, [*new_events, NewEvent.of(end, is_servers=True)])
    attempt = state.attempt + 1
    started = LegStarted(attempt=attempt, runner=request.runner, runner_version=request.runner_version)
    state = replace(state, leg_task_token=request.task_token)
    return Change(state, [*new_events, NewEvent.of(started)], attempt)
