"""The audit trail: who did what when to which object. Never holds what a call held.

Entries are gathered for a moment and written together, so that a busy server pays one write for many. Nothing
changes one; they go when they are old enough.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, select

from stigmer_contract.api import AuditEntry, Page, TokenScope
from stigmer_server.credentials import Credential
from stigmer_server.database import Database
from stigmer_server.errors import InvalidRequest, Unavailable
from stigmer_server.pages import decode_cursor, page_of
from stigmer_server.tables import audit_entries

logger = logging.getLogger(__name__)

WRITE_INTERVAL_SECONDS: Final = 0.25
"""So much of the trail a crash can lose."""
MAX_WAITING: Final = 10_000
"""While the database is away; later entries are dropped, and counted in the log."""
EXPIRED_AT_ONCE: Final = 1000
"""So many are looked at in one transaction."""
_MAX_TARGET_LENGTH: Final = 255
_MAX_ACTION_LENGTH: Final = 128


class AuditTrail:
    """Appends entries, reads them, and forgets old ones."""

    def __init__(self, database: Database, retention: timedelta | None) -> None:
        """`retention` is how long entries are kept; None: for ever."""
        self._database = database
        self._retention = retention
        self._waiting: list[dict[str, Any]] = []
        self._dropped = 0

    def record(
        self, credential: Credential | None, action: str, target: str | None, status: int, peer: str | None
    ) -> None:
        """Append an entry, soon."""
        if len(self._waiting) >= MAX_WAITING:
            self._dropped += 1
            return
        self._waiting.append(
            {
                "recorded_at": datetime.now(UTC),
                "actor": None if credential is None else credential.name,
                "scope": None if credential is None else credential.scope.value,
                "action": action[:_MAX_ACTION_LENGTH],
                "target": None if target is None else _printable(target)[:_MAX_TARGET_LENGTH],
                "status": status,
                "peer": peer,
            }
        )

    async def run(self) -> None:
        """Write what is waiting, again and again, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_INTERVAL_SECONDS)
            try:
                await self.write()
            except Unavailable as error:
                logger.warning("the audit trail waits to be written: %s", error)

    async def write(self) -> None:
        """Write what is waiting.

        Raises:
            Unavailable: the database does not answer; it goes on waiting.
        """
        rows = self._waiting
        if not rows:
            return
        self._waiting = []
        try:
            await self._database.write(lambda connection: connection.execute(audit_entries.insert(), rows))
        except Unavailable:
            self._waiting = rows + self._waiting
            raise
        if self._dropped:
            logger.error("%d entries of the audit trail were dropped", self._dropped)
            self._dropped = 0

    async def delete_expired(self) -> None:
        """Forget entries that are older than the retention.

        Raises:
            Unavailable: the database does not answer.
        """
        if self._retention is None:
            return
        oldest = datetime.now(UTC) - self._retention
        while await self._database.write(lambda connection: _delete_expired(connection, oldest)):
            pass

    async def list(self, limit: int, cursor: str | None) -> Page[AuditEntry]:
        """Entries, newest first."""
        query = select(audit_entries).order_by(audit_entries.c.sequence.desc()).limit(limit + 1)
        if cursor is not None:
            query = query.where(audit_entries.c.sequence < _sequence(cursor))

        def work(connection: Connection) -> Sequence[AuditEntry]:
            return [
                AuditEntry(
                    sequence=row.sequence,
                    recorded_at=row.recorded_at,
                    actor=row.actor,
                    scope=None if row.scope is None else TokenScope(row.scope),
                    action=row.action,
                    target=row.target,
                    status=row.status,
                    peer=row.peer,
                )
                for row in connection.execute(query)
            ]

        return page_of(await self._database.read(work), limit, lambda entry: str(entry.sequence))


def _delete_expired(connection: Connection, oldest: datetime) -> bool:
    """Delete from the beginning of the trail; whether there may be more.

    Entries stand in order of time, so that no index is needed to find the expired ones.
    """
    columns = (audit_entries.c.sequence, audit_entries.c.recorded_at)
    first = connection.execute(
        select(*columns).order_by(audit_entries.c.sequence).limit(EXPIRED_AT_ONCE)
    ).all()
    expired = [row.sequence for row in first if row.recorded_at < oldest]
    if expired:
        connection.execute(audit_entries.delete().where(audit_entries.c.sequence.in_(expired)))
    return len(expired) == EXPIRED_AT_ONCE


def _sequence(cursor: str) -> int:
    text = decode_cursor(cursor)
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidRequest(f"{cursor!r} is not a cursor of this list")
    return int(text)


def _printable(text: str) -> str:
    """A stranger chose the text of a path; nothing in it may steer the terminal of whoever reads it."""
    return "".join(character if character.isprintable() else "?" for character in text)
