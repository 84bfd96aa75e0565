"""Leases: what a runner shows with its token, so that it reaches only the executions that it was granted.

A lease is a message authentication code over the execution, the attempt and the token that started the leg,
so nothing has to be kept of it; whether the attempt is still the newest, the execution itself knows.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, unquote

from sqlalchemy import Connection, Row, select

from stigmer_contract.phases import ExecutionPhase
from stigmer_server.blob_grants import grant_to_session, is_of_files, session_holds
from stigmer_server.credentials import Credential
from stigmer_server.database import Database, insert_where_absent
from stigmer_server.errors import AttemptSuperseded, ExecutionEnded, Forbidden, NotFound
from stigmer_server.session_history import find_origin
from stigmer_server.tables import blob_references, executions, server_keys

KEY_NAME: Final = "leases"
KEY_BYTES: Final = 32
_CHECKED: Final = (
    executions.c.execution_id,
    executions.c.session_id,
    executions.c.place,
    executions.c.attempt,
    executions.c.phase,
)
_Checked = Row[Any, Any, Any, Any, Any]
_HINT: Final = "start a leg with this token, and send its `lease` in the header `Stigmer-Lease`"


@dataclass(frozen=True, slots=True)
class Lease:
    """A leg that was granted to the caller; whether it is still the newest is not known yet."""

    execution_id: str
    attempt: int
    runner: str
    """Empty: not known."""


class Leases:
    """Issues and reads leases. `load_key` comes first."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._key = b""

    async def load_key(self) -> None:
        """Make or read the key that all servers of the database share.

        Raises:
            Unavailable: the database does not answer.
        """

        def work(connection: Connection) -> str:
            row = {"name": KEY_NAME, "value": secrets.token_hex(KEY_BYTES), "created_at": datetime.now(UTC)}
            insert_where_absent(connection, server_keys, row)
            return connection.execute(
                select(server_keys.c.value).where(server_keys.c.name == KEY_NAME)
            ).scalar_one()

        self._key = bytes.fromhex(await self._database.write(work))

    def issue(self, credential: Credential, execution_id: str, attempt: int, runner: str) -> str:
        """The lease of a leg that was granted to this credential, for the runner of that name."""
        name = quote(runner, safe="@")
        return f"{execution_id}:{attempt}:{name}:{self._code(credential, execution_id, attempt, name)}"

    def read(self, text: str, credential: Credential) -> Lease:
        """Read a lease that a call carries.

        Raises:
            Forbidden: it was not issued to this credential.
        """
        execution_id, _, rest = text.partition(":")
        attempt, _, rest = rest.partition(":")
        name, _, code = rest.rpartition(":")
        if attempt.isascii() and attempt.isdigit() and len(attempt) < 10:  # noqa: SIM102 - reads in steps
            if hmac.compare_digest(self._code(credential, execution_id, int(attempt), name), code):
                return Lease(execution_id, int(attempt), unquote(name))
        raise Forbidden("the call carries no lease that was granted to its token", _HINT)

    async def check_execution(self, lease: Lease, execution_id: str) -> None:
        """See that an execution is the leased one, or an earlier one of its session.

        Raises:
            AttemptSuperseded: a newer attempt holds the leased execution.
            ExecutionEnded: the leased execution has ended.
            Forbidden: the execution is another one.
            NotFound: there is no such execution.
        """
        await self._database.read(lambda connection: _check_execution(connection, lease, execution_id))

    async def grant_blob(self, lease: Lease, sha256: str) -> None:
        """Let the session of the leased execution read a blob that its runner has brought.

        Raises:
            AttemptSuperseded, ExecutionEnded: as `check_execution`.
        """

        def work(connection: Connection) -> None:
            session_id, _ = _check_execution(connection, lease, lease.execution_id)
            # Brought again for another snapshot, it stays its owner's.
            if not is_of_files(connection, sha256, session_id):
                grant_to_session(connection, sha256, session_id)

        await self._database.write(work)

    async def check_blob(self, lease: Lease, sha256: str) -> None:
        """See that the session of the leased execution holds a blob.

        Raises:
            AttemptSuperseded, ExecutionEnded: as `check_execution`.
            Forbidden: none of these logs names it.
        """
        await self._database.read(lambda connection: _check_blob(connection, lease, sha256))

    def _code(self, credential: Credential, execution_id: str, attempt: int, name: str) -> str:
        # Of 0.1.0 there are leases in use that name no runner.
        parts = (credential.token_id, execution_id, str(attempt), *([name] if name else []))
        message = "\n".join(parts).encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()


def _check_execution(connection: Connection, lease: Lease, execution_id: str) -> tuple[str, int]:
    """The session's id of the leased execution, and its place in it."""
    query = select(*_CHECKED).where(executions.c.execution_id.in_({lease.execution_id, execution_id}))
    found = {row.execution_id: row for row in connection.execute(query)}
    leased, wanted = found.get(lease.execution_id), found.get(execution_id)
    if leased is None:
        raise NotFound("execution", lease.execution_id)
    if leased.attempt != lease.attempt:
        raise AttemptSuperseded(lease.attempt, leased.attempt)
    phase = ExecutionPhase(leased.phase)
    if phase.is_terminal:
        raise ExecutionEnded(lease.execution_id, phase)
    # One that is not there is refused like a stranger's, so that nobody learns which ones there are.
    if wanted is None or not _is_readable(connection, leased, wanted):
        raise Forbidden(f"execution {execution_id!r} is not the leased one's, nor its session's", _HINT)
    session_id: str = leased.session_id
    place: int = leased.place
    return session_id, place


def _is_readable(connection: Connection, leased: _Checked, wanted: _Checked) -> bool:
    """Whether it is the leased one or an earlier one of its session, or of a session that this was forked
    from."""
    if wanted.session_id == leased.session_id:
        return bool(wanted.place <= leased.place)
    session_id: str = leased.session_id
    while (origin := find_origin(connection, session_id)) is not None:
        query = select(*_CHECKED).where(executions.c.execution_id == origin.execution_id)
        parent = connection.execute(query).one_or_none()
        if parent is None:
            return False
        if parent.session_id == wanted.session_id:
            return bool(wanted.place <= parent.place)
        session_id = parent.session_id
    return False


def _check_blob(connection: Connection, lease: Lease, sha256: str) -> None:
    session_id, place = _check_execution(connection, lease, lease.execution_id)
    readable = select(executions.c.execution_id).where(
        executions.c.session_id == session_id, executions.c.place <= place
    )
    naming = select(blob_references.c.sha256).where(
        blob_references.c.sha256 == sha256, blob_references.c.execution_id.in_(readable)
    )
    is_named = connection.execute(naming.limit(1)).first() is not None
    # A runner can write any name into its log: that alone must not give it the bytes.
    if not (is_named and session_holds(connection, sha256, session_id)):
        raise Forbidden(f"no log that the lease allows to be read names the blob {sha256!r}", _HINT)
