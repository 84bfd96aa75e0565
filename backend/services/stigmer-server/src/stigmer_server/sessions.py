"""Sessions: conversations with a workspace. Their directories are the runner's, which this never touches."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import JSON, ColumnElement, Connection, Float, Row, cast, func, select

from stigmer_contract.api import CreateSession, Page, SessionResource, SetOwner, SharedWith
from stigmer_contract.identifiers import SESSION_PREFIX, new_id
from stigmer_contract.phases import ExecutionPhase
from stigmer_server.blob_grants import revoke_from_session
from stigmer_server.database import Database
from stigmer_server.errors import NotFound, SessionBusy
from stigmer_server.execution_state import ExecutionState
from stigmer_server.idempotency import Answer, act_once
from stigmer_server.owners import Caller
from stigmer_server.pages import decode_cursor, page_of
from stigmer_server.policies import check_workspace
from stigmer_server.tables import (
    blob_references,
    events,
    executions,
    inputs,
    search_documents,
    sessions,
    usage_quarters,
)

_COST_DIGITS: Final = 8
"""Of US dollars. The database adds up floating point numbers."""
Place = Callable[[str | None], str | None]
"""The task queue on which the legs of sessions with that workspace run; None: the standing runners'."""
UNENDED_PHASES = [phase.value for phase in ExecutionPhase if not phase.is_terminal]


class Sessions:
    """The sessions, by id."""

    def __init__(self, database: Database, place: Place) -> None:
        """`place` gives the placement of a workspace."""
        self._database = database
        self._place = place

    async def create(self, request: CreateSession, caller: Caller, idempotency_key: str | None) -> Answer:
        """Make a session.

        Raises:
            Forbidden: the policy of the caller's token excludes the workspace.
            IdempotencyKeyReused: the key came with another request.
        """

        check_workspace(caller.policy, request.workspace)

        def work(connection: Connection) -> Answer:
            answer, _ = act_once(
                connection,
                caller.owner,
                "sessions",
                idempotency_key,
                request,
                lambda: insert_session(
                    connection, caller.owner, request.workspace, self._place(request.workspace)
                ),
            )
            return answer

        return await self._database.write(work)

    async def get(self, session_id: str, caller: Caller) -> SessionResource:
        """The session of this id.

        Raises:
            NotFound: there is none that the caller sees.
        """

        def work(connection: Connection) -> SessionResource:
            return _with_summaries(connection, [find_session(connection, session_id, caller)])[0]

        return await self._database.read(work)

    async def list(self, caller: Caller, limit: int, cursor: str | None) -> Page[SessionResource]:
        """Sessions, newest first."""
        query = select(sessions).where(caller.may_see(sessions))
        query = query.order_by(sessions.c.session_id.desc()).limit(limit + 1)
        if cursor is not None:
            query = query.where(sessions.c.session_id < decode_cursor(cursor))

        def work(connection: Connection) -> list[SessionResource]:
            return _with_summaries(connection, [_resource(row) for row in connection.execute(query)])

        return page_of(await self._database.read(work), limit, lambda session: session.session_id)

    async def set_owner(self, session_id: str, request: SetOwner) -> SessionResource:
        """Give the session to somebody, with those of its executions that were its owner's.

        Raises:
            NotFound: there is none.
        """

        def work(connection: Connection) -> SessionResource:
            before = find_session(connection, session_id, lock=True)
            whose = request.owner or before.owner
            changes = {"owner": whose, "shared_with": request.shared_with.value}
            connection.execute(sessions.update().where(sessions.c.session_id == session_id).values(changes))
            of_owner = (executions.c.session_id == session_id) & (executions.c.owner == before.owner)
            connection.execute(executions.update().where(of_owner).values(owner=whose))
            used = (usage_quarters.c.session_id == session_id) & (usage_quarters.c.owner == before.owner)
            connection.execute(usage_quarters.update().where(used).values(owner=whose))
            return _with_summaries(connection, [find_session(connection, session_id)])[0]

        return await self._database.write(work)

    async def ask_for_compaction(self, session_id: str, caller: Caller) -> SessionResource:
        """Let the session's next execution begin with a compacted conversation.

        Raises:
            NotFound: there is none that the caller sees.
        """

        def work(connection: Connection) -> SessionResource:
            find_session(connection, session_id, caller, lock=True)
            note_compaction(connection, session_id, datetime.now(UTC))
            return _with_summaries(connection, [find_session(connection, session_id)])[0]

        return await self._database.write(work)

    async def delete(self, session_id: str, caller: Caller) -> None:
        """Forget the session with its executions and their logs.

        Raises:
            NotFound: there is none that the caller sees.
            SessionBusy: one of its executions has not ended.
        """
        await self._database.write(lambda connection: delete_session(connection, session_id, caller))


def find_session(
    connection: Connection, session_id: str, caller: Caller | None = None, *, lock: bool = False
) -> SessionResource:
    """The session of this id; locked, nobody else adds an execution to it or deletes it meanwhile.

    Without a `caller` it is found for the server itself.

    Raises:
        NotFound: there is none that the caller sees.
    """
    query = select(sessions).where(sessions.c.session_id == session_id)
    if caller is not None:
        query = query.where(caller.may_see(sessions))
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound("session", session_id)
    return _resource(row)


def insert_session(
    connection: Connection, owner: str, workspace: str | None, placement: str | None
) -> SessionResource:
    """Write a new session. Whether the caller may choose that workspace is seen before."""
    newest = connection.execute(select(func.max(sessions.c.session_id))).scalar()
    session = SessionResource(
        session_id=new_id(SESSION_PREFIX, after=newest),
        workspace=workspace,
        placement=placement,
        created_at=datetime.now(UTC),
        owner=owner,
    )
    connection.execute(sessions.insert(), session.model_dump(include=set(sessions.c.keys())))
    return session


def place_session(connection: Connection, session: SessionResource, placement: str | None) -> None:
    """Keep where the session's executions work from now on."""
    if session.placement != placement:
        of_session = sessions.c.session_id == session.session_id
        connection.execute(sessions.update().where(of_session).values(placement=placement))


def note_compaction(connection: Connection, session_id: str, asked_at: datetime | None) -> None:
    """Keep when a compaction was asked for; None: it is done with the execution that begins."""
    of_session = sessions.c.session_id == session_id
    connection.execute(sessions.update().where(of_session).values(compaction_asked_at=asked_at))


def has_unended_execution(connection: Connection, session_id: str) -> bool:
    """Whether an execution of the session is in hand."""
    query = select(executions.c.execution_id).where(
        executions.c.session_id == session_id, executions.c.phase.in_(UNENDED_PHASES)
    )
    return connection.execute(query.limit(1)).first() is not None


def find_unended(connection: Connection, session_id: str) -> ExecutionState | None:
    """The session's execution that has not ended; None: they all have."""
    query = select(executions).where(
        executions.c.session_id == session_id, executions.c.phase.in_(UNENDED_PHASES)
    )
    row = connection.execute(query.limit(1)).first()
    return None if row is None else ExecutionState.from_row(row)


def newest_place(connection: Connection, session_id: str) -> int:
    """The place of the session's newest execution; 0: it has none."""
    query = select(func.max(executions.c.place)).where(executions.c.session_id == session_id)
    return connection.execute(query).scalar() or 0


def next_place(connection: Connection, session_id: str) -> int:
    """The place of an execution that the session, which is locked, is to get."""
    return newest_place(connection, session_id) + 1


def delete_session(connection: Connection, session_id: str, caller: Caller | None = None) -> None:
    """Forget the session with its executions and their logs; without a `caller`: for the server itself.

    Raises:
        NotFound: there is none that the caller sees.
        SessionBusy: one of its executions has not ended.
    """
    find_session(connection, session_id, caller, lock=True)
    if has_unended_execution(connection, session_id):
        raise SessionBusy(session_id)
    of_session = select(executions.c.execution_id).where(executions.c.session_id == session_id)
    connection.execute(inputs.delete().where(inputs.c.execution_id.in_(of_session)))
    connection.execute(events.delete().where(events.c.execution_id.in_(of_session)))
    connection.execute(blob_references.delete().where(blob_references.c.execution_id.in_(of_session)))
    for table in (usage_quarters, search_documents):
        connection.execute(table.delete().where(table.c.session_id == session_id))
    connection.execute(executions.delete().where(executions.c.session_id == session_id))
    revoke_from_session(connection, session_id)
    connection.execute(sessions.delete().where(sessions.c.session_id == session_id))


def _with_summaries(connection: Connection, found: list[SessionResource]) -> list[SessionResource]:
    """With what the executions of each session say of it: how it began, whose turn it is, what it cost."""
    ids = [session.session_id for session in found]
    mine = executions.c.session_id.in_(ids)
    totals = (
        select(
            executions.c.session_id,
            func.count().label("count"),
            func.min(executions.c.place).label("first"),
            func.max(executions.c.place).label("newest"),
            func.sum(_cost_of_usage(connection)).label("cost_usd"),
        )
        .where(mine)
        .group_by(executions.c.session_id)
        .subquery()
    )
    first, newest = executions.alias(), executions.alias()
    query = select(totals, first.c.input_head, newest.c.agent_name).select_from(
        totals.join(
            first, (first.c.session_id == totals.c.session_id) & (first.c.place == totals.c.first)
        ).join(newest, (newest.c.session_id == totals.c.session_id) & (newest.c.place == totals.c.newest))
    )
    summaries = {
        row.session_id: {
            "input_head": row.input_head,
            "agent_name": row.agent_name,
            "execution_count": row.count,
            "cost_usd": None if row.cost_usd is None else round(Decimal(row.cost_usd), _COST_DIGITS),
        }
        for row in connection.execute(query)
    }
    return [session.model_copy(update=summaries.get(session.session_id, {})) for session in found]


def _cost_of_usage(connection: Connection) -> ColumnElement[float]:
    usage = executions.c.usage
    if connection.dialect.name == "postgresql":
        return cast(cast(usage, JSON).op("->>")("cost_usd"), Float)
    return cast(func.json_extract(usage, "$.cost_usd"), Float)


def _resource(row: Row[Any]) -> SessionResource:
    return SessionResource(
        session_id=row.session_id,
        workspace=row.workspace,
        placement=row.placement,
        created_at=row.created_at,
        owner=row.owner,
        shared_with=SharedWith(row.shared_with),
        compaction_asked_at=row.compaction_asked_at,
    )
