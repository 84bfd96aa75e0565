"""Executions that rest: paused, and resumed. The log decides which came first, as with everything."""

from stigmer_contract.api import ExecutionResource
from stigmer_contract.events import ExecutionPaused, ExecutionResumed
from stigmer_server.errors import Conflict, ExecutionEnded
from stigmer_server.event_log import Change, EventLog, NewEvent
from stigmer_server.execution_state import ExecutionState
from stigmer_server.idempotency import append_id
from stigmer_server.owners import Caller


class Pauses:
    """Lets executions rest, and go on."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def pause(self, execution_id: str, who: str, reason: str | None) -> ExecutionResource:
        """Let an execution rest once what it has in hand has ended; one that is paused is left as it is.

        `who` is the name of the caller's token.

        Raises:
            ExecutionEnded: there is nothing to pause.
        """
        paused = NewEvent.of(ExecutionPaused(paused_by=who, reason=reason))

        def decide(state: ExecutionState) -> Change:
            if state.phase.is_terminal:
                raise ExecutionEnded(state.execution_id, state.phase)
            return Change(state, [] if state.paused_at is not None else [paused])

        return (await self._log.append(execution_id, decide)).state.to_resource()

    async def resume(
        self, execution_id: str, who: str, caller: Caller, idempotency_key: str | None
    ) -> ExecutionResource:
        """Let a paused execution go on.

        Raises:
            InvalidRequest: the key is too long.
            ExecutionEnded: it has ended meanwhile.
            Conflict: it is not paused.
        """
        resumed = NewEvent.of(ExecutionResumed(resumed_by=who))

        def decide(state: ExecutionState) -> Change:
            if state.phase.is_terminal:
                raise ExecutionEnded(state.execution_id, state.phase)
            if state.paused_at is None:
                raise Conflict(f"execution {state.execution_id!r} is not paused: it is {state.phase}")
            return Change(state, [resumed])

        known_by = append_id("resume", caller.owner, idempotency_key)
        return (await self._log.append(execution_id, decide, known_by)).state.to_resource()
