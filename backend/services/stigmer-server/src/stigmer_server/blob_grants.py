"""Who may read which blob: sessions, for whoever sees them and for the runners at work in them, and owners.

To be told a blob's name is not enough: it is granted to whoever brought the bytes. What snapshots of a
session's files consist of, only its owner reads, as the files themselves, whoever else sees the session.
"""

from collections.abc import Collection, Set
from typing import Final

from sqlalchemy import Connection, literal, or_, select

from stigmer_contract.identifiers import SESSION_PREFIX
from stigmer_server.database import insert_all_where_absent, insert_where_absent
from stigmer_server.owners import Caller
from stigmer_server.tables import blob_grants, executions, sessions

_FILES: Final = "files:"
"""Before a session's id: for its owner alone, and the runners at work in it."""


def grant_to_session(connection: Connection, sha256: str, session_id: str) -> None:
    """Let whoever sees a session, and runners at work in it, read a blob."""
    insert_where_absent(connection, blob_grants, {"sha256": sha256, "holder": session_id})


def grant_to_sessions(connection: Connection, brought: Set[tuple[str, str]]) -> None:
    """As `grant_to_session`, for each SHA-256 and session."""
    rows = [{"sha256": sha256, "holder": session_id} for sha256, session_id in sorted(brought)]
    insert_all_where_absent(connection, blob_grants, rows)


def grant_files_to_session(connection: Connection, sha256s: Collection[str], session_id: str) -> None:
    """Let a session's owner alone, and runners at work in it, read what snapshots of its files consist of."""
    is_one = blob_grants.c.sha256.in_(sorted(sha256s))
    connection.execute(blob_grants.delete().where(is_one, blob_grants.c.holder == session_id))
    rows = [{"sha256": sha256, "holder": f"{_FILES}{session_id}"} for sha256 in sorted(sha256s)]
    insert_all_where_absent(connection, blob_grants, rows)


def grant_to_owner(connection: Connection, sha256: str, owner: str) -> None:
    """Let an owner read a blob."""
    insert_where_absent(connection, blob_grants, {"sha256": sha256, "holder": _owner(owner)})


def session_holds(connection: Connection, sha256: str, session_id: str) -> bool:
    """Whether a blob was granted to a session, or to its owner with the session's files."""
    holders = (session_id, f"{_FILES}{session_id}")
    mine = (blob_grants.c.sha256 == sha256) & blob_grants.c.holder.in_(holders)
    return connection.execute(select(blob_grants.c.sha256).where(mine)).first() is not None


def is_of_files(connection: Connection, sha256: str, session_id: str) -> bool:
    """Whether a blob was granted with the session's files."""
    mine = (blob_grants.c.sha256 == sha256) & (blob_grants.c.holder == f"{_FILES}{session_id}")
    return connection.execute(select(blob_grants.c.sha256).where(mine)).first() is not None


def session_of(connection: Connection, execution_id: str) -> str | None:
    """The session whose blobs an execution may use; None where there is no such execution."""
    query = select(executions.c.session_id).where(executions.c.execution_id == execution_id)
    return connection.execute(query).scalar()


def may_read(connection: Connection, sha256: str, caller: Caller) -> bool:
    """Whether a blob was granted to a caller, to a session that it sees, or with the files of its own one."""
    if caller.sees_all:
        return True
    holder = blob_grants.c.holder
    own_files = select(literal(_FILES) + sessions.c.session_id).where(sessions.c.owner == caller.owner)
    mine = or_(holder == _owner(caller.owner), caller.may_see_session(holder), holder.in_(own_files))
    query = select(blob_grants.c.sha256).where(blob_grants.c.sha256 == sha256, mine)
    return connection.execute(query.limit(1)).first() is not None


def revoke_from_session(connection: Connection, session_id: str) -> None:
    """Forget what was granted to a session."""
    holders = (session_id, f"{_FILES}{session_id}")
    connection.execute(blob_grants.delete().where(blob_grants.c.holder.in_(holders)))


def is_held_by_session(connection: Connection, sha256: str) -> bool:
    """Whether a blob was granted to any session."""
    query = select(blob_grants.c.holder).where(blob_grants.c.sha256 == sha256)
    holders = connection.execute(query).scalars()
    return any(holder.removeprefix(_FILES).startswith(f"{SESSION_PREFIX}_") for holder in holders)


def revoke_all(connection: Connection, sha256: str) -> None:
    """Forget to whom a blob was granted, which is gone."""
    connection.execute(blob_grants.delete().where(blob_grants.c.sha256 == sha256))


def _owner(owner: str) -> str:
    return f"owner:{owner}"
