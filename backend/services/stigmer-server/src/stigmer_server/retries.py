"""Executions that go on: those that failed, from their log, and those that wait for a model, at once.

Decides who may retry what. The workflow is `reconciler`'s business.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from stigmer_contract.api import ExecutionResource, RetryExecution
from stigmer_contract.events import ExecutionRetried
from stigmer_contract.manifest import Limits
from stigmer_contract.phases import ExecutionPhase
from stigmer_server.database import Database
from stigmer_server.errors import Conflict, ExecutionEnded, Forbidden
from stigmer_server.event_log import Change, EventLog, NewEvent
from stigmer_server.execution_state import ExecutionState
from stigmer_server.idempotency import append_id
from stigmer_server.owners import Caller
from stigmer_server.policies import check_costs
from stigmer_server.sessions import find_session, newest_place
from stigmer_server.steady_clock import SteadyClock
from stigmer_server.token_reach import check_bearer, read_reach


class Retries:
    """Lets executions go on."""

    def __init__(
        self, database: Database, log: EventLog, on_retried: Callable[[ExecutionState], None]
    ) -> None:
        """`on_retried` is told of those that had failed, after the commit, and must not block."""
        self._database = database
        self._log = log
        self._on_retried = on_retried

    async def retry(
        self, seen: ExecutionState, request: RetryExecution, caller: Caller, idempotency_key: str | None
    ) -> ExecutionResource:
        """Let an execution go on from its log; one that does so already is left as it is.

        Raises:
            InvalidRequest: the key is too long.
            Forbidden: the execution is somebody else's, or the policy of the caller's token excludes it.
            ExecutionEnded: it has completed, or was cancelled.
            Conflict: it has not failed, or is not the newest of its session.
        """
        if caller.owner != seen.owner and not caller.sees_all:
            raise Forbidden(
                f"execution {seen.execution_id!r} is {seen.owner!r}'s, whose secrets it is given",
                "start an execution of your own in the session",
            )
        first, workspace = await self._database.read(
            lambda connection: read_reach(connection, seen.execution_id, seen.session_id)
        )
        check_bearer(caller.policy, first, workspace)
        spec = first.spec
        is_limited = caller.policy.max_cost_per_day_usd is not None
        token_id = caller.token_id if is_limited else None
        began_again = list[bool]()

        def decide(state: ExecutionState) -> Change:
            if not _may_go_on(state, has_wishes=request.limits is not None):
                return Change(state)
            limits = None if request.limits is None else _merged(state.limits or spec.limits, request.limits)
            if limits is not None:
                before = (state.limits or spec.limits).duration
                state = _with_duration(state, before, limits.duration, self._log.clock)
            began_again.append(state.phase is ExecutionPhase.FAILED)
            return Change(replace(state, token_id=token_id), [NewEvent.of(ExecutionRetried(limits=limits))])

        def check(connection: Connection) -> None:
            find_session(connection, seen.session_id, lock=True)
            if newest_place(connection, seen.session_id) != seen.place:
                raise Conflict(
                    f"execution {seen.execution_id!r} is not the newest of its session; only that can go on",
                    "start a new execution in the session",
                )
            if token_id is not None:
                check_costs(connection, token_id, datetime.now(UTC))

        known_by = append_id("retry", caller.owner, idempotency_key)
        appended = await self._log.append(seen.execution_id, decide, known_by, check)
        if appended.stored and began_again[-1]:
            self._on_retried(appended.state)
        return appended.state.to_resource()


def _may_go_on(state: ExecutionState, *, has_wishes: bool) -> bool:
    """Whether there is something to do; False: it goes on already."""
    match state.phase:
        case ExecutionPhase.COMPLETED | ExecutionPhase.CANCELLED:
            raise ExecutionEnded(state.execution_id, state.phase)
        case ExecutionPhase.FAILED:
            return True
        case _ if state.waits_for_model:
            return True
        case _ if state.retried_at is not None and not has_wishes:
            return False
        case _:
            raise Conflict(
                f"execution {state.execution_id!r} has not failed: it is {state.phase}",
                f"run `stigmer executions follow {state.execution_id}` to see how it goes on",
            )


def _merged(before: Limits, wanted: Limits) -> Limits:
    return before.model_copy(update={name: getattr(wanted, name) for name in wanted.model_fields_set})


def _with_duration(
    state: ExecutionState, before: timedelta | None, after: timedelta | None, clock: SteadyClock
) -> ExecutionState:
    """With the deadline of another `limits.duration`: what has been used of it stays used."""
    if before == after:
        return state
    if after is None:
        return replace(state, deadline_at=None)
    if state.deadline_at is None or before is None:
        # Nothing was counted so far: what has gone by is what the wall clock says.
        since = clock.now() - (datetime.now(UTC) - state.created_at)
    else:
        since = state.deadline_at - before
    return replace(state, deadline_at=since + after)
