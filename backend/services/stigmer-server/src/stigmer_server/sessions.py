"""Sessions: conversations with a workspace. Their directories are the runner's, which this never touches."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from stigmer_contract.api import CreateSession, Page, SessionResource
from stigmer_contract.identifiers import SESSION_PREFIX, new_id
from stigmer_contract.phases import ExecutionPhase
from stigmer_server.database import Database
from stigmer_server.errors import NotFound, SessionBusy
from stigmer_server.idempotency import Answer, act_once
from stigmer_server.pages import decode_cursor, page_of
from stigmer_server.tables import blob_references, events, executions, sessions

UNENDED_PHASES = [phase.value for phase in ExecutionPhase if not phase.is_terminal]


class Sessions:
    """The sessions, by id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, request: CreateSession, idempotency_key: str | None) -> Answer:
        """Make a session.

        Raises:
            IdempotencyKeyReused: the key came with another request.
        """

        def work(connection: Connection) -> Answer:
            answer, _ = act_once(
                connection,
                "sessions",
                idempotency_key,
                request,
                lambda: insert_session(connection, request.workspace),
            )
            return answer

        return await self._database.write(work)

    async def get(self, session_id: str) -> SessionResource:
        """The session of this id.

        Raises:
            NotFound: there is none.
        """
        return await self._database.read(lambda connection: find_session(connection, session_id))

    async def list(self, limit: int, cursor: str | None) -> Page[SessionResource]:
        """Sessions, newest first."""
        query = select(sessions).order_by(sessions.c.session_id.desc()).limit(limit + 1)
        if cursor is not None:
            query = query.where(sessions.c.session_id < decode_cursor(cursor))

        def work(connection: Connection) -> list[SessionResource]:
            return [_resource(row) for row in connection.execute(query)]

        return page_of(await self._database.read(work), limit, lambda session: session.session_id)

    async def delete(self, session_id: str) -> None:
        """Forget the session with its executions and their logs.

        Raises:
            NotFound: there is none.
            SessionBusy: one of its executions has not ended.
        """
        await self._database.write(lambda connection: _delete(connection, session_id))


def find_session(connection: Connection, session_id: str, *, lock: bool = False) -> SessionResource:
    """The session of this id; locked, nobody else adds an execution to it or deletes it meanwhile.

    Raises:
        NotFound: there is none.
    """
    query = select(sessions).where(sessions.c.session_id == session_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound("session", session_id)
    return _resource(row)


def insert_session(connection: Connection, workspace: str | None) -> SessionResource:
    """Write a new session. Whether the caller may choose that workspace is seen before."""
    session = SessionResource(
        session_id=new_id(SESSION_PREFIX), workspace=workspace, created_at=datetime.now(UTC)
    )
    connection.execute(sessions.insert(), session.model_dump())
    return session


def has_unended_execution(connection: Connection, session_id: str) -> bool:
    """Whether an execution of the session is in hand."""
    query = select(executions.c.execution_id).where(
        executions.c.session_id == session_id, executions.c.phase.in_(UNENDED_PHASES)
    )
    return connection.execute(query.limit(1)).first() is not None


def next_place(connection: Connection, session_id: str) -> int:
    """The place of an execution that the session, which is locked, is to get."""
    query = select(func.max(executions.c.place)).where(executions.c.session_id == session_id)
    return (connection.execute(query).scalar() or 0) + 1


def _delete(connection: Connection, session_id: str) -> None:
    find_session(connection, session_id, lock=True)
    if has_unended_execution(connection, session_id):
        raise SessionBusy(session_id)
    of_session = select(executions.c.execution_id).where(executions.c.session_id == session_id)
    connection.execute(events.delete().where(events.c.execution_id.in_(of_session)))
    connection.execute(blob_references.delete().where(blob_references.c.execution_id.in_(of_session)))
    connection.execute(executions.delete().where(executions.c.session_id == session_id))
    connection.execute(sessions.delete().where(sessions.c.session_id == session_id))


def _resource(row: Row[Any]) -> SessionResource:
    return SessionResource(session_id=row.session_id, workspace=row.workspace, created_at=row.created_at)
