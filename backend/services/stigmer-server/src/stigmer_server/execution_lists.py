"""Which executions a list holds: by session, agent, phase, owner, time and cost."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Connection, Select, select

from stigmer_contract.identifiers import EXECUTION_PREFIX, first_id
from stigmer_contract.phases import ExecutionPhase
from stigmer_server.execution_state import nanos_of
from stigmer_server.owners import Caller
from stigmer_server.pages import decode_cursor
from stigmer_server.search_index import search_condition
from stigmer_server.tables import executions

CLOCK_SLACK: Final = timedelta(days=1)
"""Ids go on counting where a clock was set back, so that they may be of a later time than their execution."""


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """What the executions of a list have in common; what is None or empty asks nothing."""

    session_id: str | None = None
    agent_name: str | None = None
    phases: tuple[ExecutionPhase, ...] = ()
    owner: str | None = None
    since: datetime | None = None
    """Created then or later."""
    until: datetime | None = None
    """Created before."""
    min_cost_usd: Decimal | None = None
    text: str | None = None
    """Words that stand in what was said, as `search_index` finds them."""


def list_query(
    connection: Connection, caller: Caller, wanted: ExecutionFilter, limit: int, cursor: str | None
) -> Select[Any]:
    """One more than `limit` of what the caller sees of that, newest first.

    Raises:
        InvalidRequest: the cursor is not one that this server gave out.
    """
    columns = executions.c
    # Ids first: where many sessions lead to them, the database sorts them alone, and not what they stand for.
    may_see = caller.may_see_session
    if caller.sees_many_sessions(connection):
        may_see = caller.may_see_one_session
    query = select(columns.execution_id).where(may_see(columns.session_id))
    query = query.order_by(columns.execution_id.desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(columns.execution_id < decode_cursor(cursor))
    if wanted.session_id is not None:
        query = query.where(columns.session_id == wanted.session_id)
    if wanted.agent_name is not None:
        query = query.where(columns.agent_name == wanted.agent_name)
    if wanted.phases:
        query = query.where(columns.phase.in_([phase.value for phase in wanted.phases]))
    if wanted.owner is not None:
        query = query.where(columns.owner == wanted.owner)
    if wanted.since is not None:
        query = query.where(
            columns.created_at >= wanted.since,
            columns.execution_id >= first_id(EXECUTION_PREFIX, wanted.since),
        )
    if wanted.until is not None:
        query = query.where(
            columns.created_at < wanted.until,
            columns.execution_id < first_id(EXECUTION_PREFIX, wanted.until, CLOCK_SLACK),
        )
    if wanted.min_cost_usd is not None:
        query = query.where(columns.cost_nanos >= nanos_of(wanted.min_cost_usd))
    if wanted.text is not None:
        query = query.where(search_condition(connection, wanted.text))
    return (
        select(executions)
        .where(columns.execution_id.in_(query.scalar_subquery()))
        .order_by(columns.execution_id.desc())
    )
