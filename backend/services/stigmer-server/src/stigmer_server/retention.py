"""Forgets what is older than the operator wants it kept: sessions with their logs, workspaces, blobs.

By default everything is kept. One thing is removed at a time, so that nobody waits for it. Never touched:
what has an execution that has not ended, a directory that a person named, a blob that a log or an agent names
or whose session is kept.
"""

import asyncio
import logging
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, func, select

from stigmer_contract.identifiers import SESSION_PREFIX
from stigmer_server.blob_grants import is_held_by_session, revoke_all
from stigmer_server.blobs import BlobStore
from stigmer_server.database import Database
from stigmer_server.errors import NotFound, SessionBusy, Unavailable
from stigmer_server.sessions import UNENDED_PHASES, delete_session
from stigmer_server.settings import Retention
from stigmer_server.tables import agents, blob_references, executions, sessions

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 600.0
PAUSE_SECONDS: Final = 0.05
"""Between one thing and the next."""
A_STEP: Final = 50
"""So many sessions are looked up at once."""
YOUNGEST_BLOB: Final = timedelta(days=1)
"""A younger one may be about to be named."""
_SESSION_ID: Final = re.compile(rf"{SESSION_PREFIX}_[0-9a-hjkmnp-tv-z]{{26}}")
_IDENTITIES: Final = ".workspaces"
_DOOMED: Final = ".removed-"


@dataclass
class Removed:
    """How much went in one round."""

    sessions: int = 0
    workspaces: int = 0
    blobs: int = 0


class Keeper:
    """Removes what is over its time."""

    def __init__(
        self, database: Database, blobs: BlobStore, retention: Retention, workspaces: Path | None
    ) -> None:
        """`workspaces` holds the sessions' own directories; None: they are on other machines."""
        self._database = database
        self._blobs = blobs
        self._retention = retention
        self._workspaces = workspaces

    async def run(self) -> None:
        """Remove, again and again, until cancelled; returns at once where all is kept."""
        while self._retention.removes_anything:
            try:
                removed = await self.remove()
                if removed != Removed():
                    logger.info("removed what is over its time: %s", removed)
            except Unavailable as error:
                logger.warning("could not remove what is over its time: %s", error)
            except Exception:
                logger.exception("could not remove what is over its time")
            await asyncio.sleep(INTERVAL_SECONDS)

    async def remove(self) -> Removed:
        """One round.

        Raises:
            Unavailable: the database does not answer.
        """
        removed, now = Removed(), datetime.now(UTC)
        if self._retention.executions is not None:
            removed.sessions = await self._remove_sessions(now - self._retention.executions)
        if self._retention.workspaces is not None and self._workspaces is not None:
            removed.workspaces = await self._remove_workspaces(
                self._workspaces, now - self._retention.workspaces
            )
        if self._retention.unreferenced_blobs:
            removed.blobs = await self._remove_blobs(now - YOUNGEST_BLOB)
        return removed

    # --- sessions -----------------------------------------------------------------------------

    async def _remove_sessions(self, before: datetime) -> int:
        count, after = 0, ""
        while True:
            found = await self._database.read(
                lambda connection, after=after: _idle_sessions(connection, before, after)
            )
            if not found:
                return count
            for session_id in found:
                # What has begun meanwhile stays.
                with suppress(NotFound, SessionBusy):
                    await self._database.write(
                        lambda connection, this=session_id: _delete_if_idle(connection, this, before)
                    )
                    count += 1
                await asyncio.sleep(PAUSE_SECONDS)
            after = found[-1]

    # --- workspaces ---------------------------------------------------------------------------

    async def _remove_workspaces(self, root: Path, before: datetime) -> int:
        count = 0
        await asyncio.to_thread(_remove_doomed, root)
        for session_id in await asyncio.to_thread(_directories_in, root):
            is_over = await self._database.read(
                lambda connection, this=session_id: _is_over(connection, this, before)
            )
            # One whose session is gone tells by itself how old it is.
            if is_over is None:
                is_over = await asyncio.to_thread(_is_older, root / session_id, before)
            if is_over:
                count += await asyncio.to_thread(remove_directory, root, session_id)
            await asyncio.sleep(PAUSE_SECONDS)
        return count

    # --- blobs --------------------------------------------------------------------------------

    async def _remove_blobs(self, before: datetime) -> int:
        count = 0
        for folder in range(256):
            old = await asyncio.to_thread(self._blobs.list_older, f"{folder:02x}", before.timestamp())
            for sha256 in old:
                if await self._database.read(lambda connection, this=sha256: _is_needed(connection, this)):
                    continue
                count += await self._database.write(
                    lambda connection, this=sha256: self._remove_if_unneeded(connection, this, before)
                )
                await asyncio.sleep(PAUSE_SECONDS)
            await asyncio.sleep(0)
        return count

    def _remove_if_unneeded(self, connection: Connection, sha256: str, before: datetime) -> bool:
        """In one transaction: a log that names it meanwhile keeps it; a grant that comes then stays."""
        if _is_needed(connection, sha256) or not self._blobs.remove_older(sha256, before.timestamp()):
            return False
        revoke_all(connection, sha256)
        return True


def _idle_sessions(connection: Connection, before: datetime, after: str) -> Sequence[str]:
    """Sessions behind `after` whose last execution ended before that, or that never had one."""
    ended = (
        select(func.max(executions.c.ended_at))
        .where(executions.c.session_id == sessions.c.session_id)
        .correlate(sessions)
        .scalar_subquery()
    )
    unended = (
        select(executions.c.execution_id)
        .where(executions.c.session_id == sessions.c.session_id, executions.c.phase.in_(UNENDED_PHASES))
        .correlate(sessions)
        .exists()
    )
    query = (
        select(sessions.c.session_id)
        .where(
            sessions.c.session_id > after,
            sessions.c.created_at < before,
            ended.is_(None) | (ended < before),
            ~unended,
        )
        .order_by(sessions.c.session_id)
        .limit(A_STEP)
    )
    return list(connection.execute(query).scalars())


def _delete_if_idle(connection: Connection, session_id: str, before: datetime) -> None:
    """Forget the session, unless it was used since it was found.

    Raises:
        SessionBusy: it was.
    """
    if not _is_over(connection, session_id, before):
        raise SessionBusy(session_id)
    delete_session(connection, session_id)


def _is_over(connection: Connection, session_id: str, before: datetime) -> bool | None:
    """Whether nothing has happened in the session since; None: there is none of that id."""
    row = connection.execute(
        select(sessions.c.created_at).where(sessions.c.session_id == session_id)
    ).one_or_none()
    if row is None:
        return None
    query = select(executions.c.phase, executions.c.ended_at).where(executions.c.session_id == session_id)
    found = connection.execute(query).all()
    if any(each.phase in UNENDED_PHASES for each in found):
        return False
    moments = [row.created_at, *(each.ended_at for each in found if each.ended_at is not None)]
    return max(moments) < before


def _is_needed(connection: Connection, sha256: str) -> bool:
    """Whether a log or an agent names the blob, or a session that is kept has brought it."""
    named = select(blob_references.c.sha256).where(blob_references.c.sha256 == sha256).limit(1)
    if connection.execute(named).first() is not None:
        return True
    if is_held_by_session(connection, sha256):
        return True
    # Packs of scripts, and cassettes.
    of_agents = select(agents.c.name).where(agents.c.manifest.contains(sha256)).limit(1)
    return connection.execute(of_agents).first() is not None


# --- directories ------------------------------------------------------------------------------


def _directories_in(root: Path) -> list[str]:
    """The ids of sessions that have a directory there."""
    with suppress(OSError), os.scandir(root) as entries:
        return sorted(
            entry.name
            for entry in entries
            if _SESSION_ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
        )
    return []


def _is_older(directory: Path, before: datetime) -> bool:
    with suppress(OSError):
        return directory.lstat().st_mtime < before.timestamp()
    return False


def remove_directory(root: Path, session_id: str) -> bool:
    """Remove a session's own directory, and what is kept of the one that it was given. Follows no link.

    It gets another name first: an execution that begins now gets a new one. Whether that could be done; where
    it could not, all stays for the next round.
    """
    try:
        (root / session_id).rename(root / f"{_DOOMED}{session_id}")
    except FileNotFoundError:  # another server was quicker
        return False
    except OSError as error:
        logger.warning("could not remove a workspace: %s", error.strerror, extra={"session_id": session_id})
        return False
    with suppress(OSError):
        (root / _IDENTITIES / session_id).unlink(missing_ok=True)
    _remove_doomed(root)
    logger.info("removed a workspace", extra={"session_id": session_id})
    return True


def _remove_doomed(root: Path) -> None:
    """Remove what got another name. What an agent has put there may resist; that stays for the next round."""
    for directory in root.glob(f"{_DOOMED}*"):
        shutil.rmtree(directory, ignore_errors=True)
