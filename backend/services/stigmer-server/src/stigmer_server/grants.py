"""Kinds of calls that people have approved for an execution: listed, and revoked. Its log holds both."""

import json
from collections.abc import Sequence

from sqlalchemy import Connection, select

from stigmer_contract.api import GrantResource
from stigmer_contract.events import EVENT_ADAPTER, GrantRevoked, InputResolved
from stigmer_server.database import Database
from stigmer_server.errors import ExecutionEnded, Forbidden, NotFound
from stigmer_server.event_log import Change, EventLog, NewEvent
from stigmer_server.execution_state import ExecutionState
from stigmer_server.inputs import Answerer
from stigmer_server.tables import events


class Grants:
    """What is granted in executions, by the approval with which it was."""

    def __init__(self, database: Database, log: EventLog) -> None:
        self._database = database
        self._log = log

    async def list(self, execution_id: str) -> Sequence[GrantResource]:
        """All of an execution, oldest first; what was revoked among it."""
        return await self._database.read(lambda connection: _read(connection, execution_id))

    async def revoke(self, state: ExecutionState, input_id: str, who: Answerer) -> GrantResource:
        """Have calls of that kind asked about again, from the next one on that has not begun.

        Revoking it again changes nothing.

        Raises:
            NotFound: nothing was granted with that approval.
            Forbidden: the execution is another's, who alone may decide.
            ExecutionEnded: it has ended, and what was granted with it.
        """
        if who.caller.owner != state.owner and not who.caller.sees_all:
            raise Forbidden(
                f"what execution {state.execution_id!r} may do is {state.owner!r}'s to decide",
                f"use a token of {state.owner!r}",
            )
        granted = _find(await self.list(state.execution_id), input_id)
        revoked = NewEvent.of(GrantRevoked(input_id=input_id, revoked_by=who.name, origin=who.origin))

        def decide(state: ExecutionState) -> Change:
            if state.phase.is_terminal:
                raise ExecutionEnded(state.execution_id, state.phase)
            return Change(state, [revoked])

        if granted.revoked_at is None:
            # Of two who revoke at once, one acts.
            await self._log.append(state.execution_id, decide, f"revoke {input_id}")
        return _find(await self.list(state.execution_id), input_id)


def _find(granted: Sequence[GrantResource], input_id: str) -> GrantResource:
    for grant in granted:
        if grant.input_id == input_id:
            return grant
    raise NotFound("grant", input_id)


def _read(connection: Connection, execution_id: str) -> list[GrantResource]:
    query = (
        select(events.c.recorded_at, events.c.body)
        .where(events.c.execution_id == execution_id, events.c.type.in_(("input.resolved", "grant.revoked")))
        .order_by(events.c.sequence)
    )
    found: dict[str, GrantResource] = {}
    for row in connection.execute(query):
        match EVENT_ADAPTER.validate_json(row.body):
            case InputResolved(grants=str(rule)) as resolved:
                found[resolved.input_id] = GrantResource(
                    input_id=resolved.input_id,
                    execution_id=execution_id,
                    rule=json.loads(rule),
                    granted_at=row.recorded_at,
                    granted_by=resolved.resolved_by,
                )
            case GrantRevoked() as revoked if revoked.input_id in found:
                found[revoked.input_id] = found[revoked.input_id].model_copy(
                    update={"revoked_at": row.recorded_at, "revoked_by": revoked.revoked_by}
                )
            case _:
                pass
    return list(found.values())
