"""Inputs as they are found in the database: each with the events that ask and that resolve it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, or_, select

from stigmer_contract.api import InputResolution, InputResource
from stigmer_contract.events import EVENT_ADAPTER, InputRequested, InputResolved
from stigmer_server.owners import Caller
from stigmer_server.tables import events, executions, inputs

_asking = events.alias("asking")
_resolving = events.alias("resolving")


@dataclass(frozen=True, slots=True)
class FoundInput:
    """An input with what its log says of it."""

    resource: InputResource
    request: InputRequested


def inputs_of(caller: Caller | None) -> Select[*tuple[Any, ...]]:
    """The inputs that the caller sees, each with its events; without a caller: all."""
    query = (
        select(
            inputs.c.execution_id,
            executions.c.session_id,
            executions.c.owner,
            executions.c.agent_name,
            inputs.c.reminded_at,
            inputs.c.escalated_to,
            _asking.c.recorded_at.label("requested_at"),
            _asking.c.body.label("asking"),
            _resolving.c.recorded_at.label("resolved_at"),
            _resolving.c.body.label("resolving"),
        )
        .join(executions, executions.c.execution_id == inputs.c.execution_id)
        .join(
            _asking,
            (_asking.c.execution_id == inputs.c.execution_id) & (_asking.c.sequence == inputs.c.sequence),
        )
        .outerjoin(
            _resolving,
            (_resolving.c.execution_id == inputs.c.execution_id)
            & (_resolving.c.sequence == inputs.c.resolved_sequence),
        )
    )
    if caller is None:
        return query
    is_escalated = inputs.c.escalated_to == caller.owner
    return query.where(or_(caller.may_see_session(executions.c.session_id), is_escalated))


def read_input(row: Row[Any]) -> FoundInput:
    """An input of a row of `inputs_of`."""
    request = EVENT_ADAPTER.validate_json(row.asking)
    assert isinstance(request, InputRequested)
    resolution = None
    if row.resolving is not None:
        resolved = EVENT_ADAPTER.validate_json(row.resolving)
        assert isinstance(resolved, InputResolved)
        resolution = InputResolution(
            outcome=resolved.outcome,
            resolved_at=row.resolved_at,
            resolved_by=resolved.resolved_by,
            origin=resolved.origin,
            reason=resolved.reason,
        )
    resource = InputResource(
        input_id=request.input_id,
        execution_id=row.execution_id,
        session_id=row.session_id,
        owner=row.owner,
        agent_name=row.agent_name,
        kind=request.kind,
        toolset=request.toolset,
        tool=request.tool,
        call_id=request.call_id,
        title=request.title,
        content=request.content,
        answer_schema=request.answer_schema,
        requested_at=row.requested_at,
        expires_at=request.expires_at,
        remind_at=request.remind_at,
        on_expiry=request.on_expiry,
        reminded_at=row.reminded_at,
        escalated_to=row.escalated_to,
        resolution=resolution,
    )
    return FoundInput(resource, request)
