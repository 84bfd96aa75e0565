"""When runners were heard from last: each of their calls counts.

Kept in memory, and some seconds later in the database, so that other servers know it too.
"""

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, select

from stigmer_server.database import Database, insert_where_absent
from stigmer_server.errors import Unavailable
from stigmer_server.tables import runners

logger = logging.getLogger(__name__)

WRITE_INTERVAL_SECONDS: Final = 5.0
KEPT: Final = timedelta(days=7)
"""Of a runner that is heard of no more; far longer than legs wait for each other."""


class RunnerPresence:
    """Who was heard from when."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._heard_at: dict[str, datetime] = {}
        self._unwritten: set[str] = set()

    def hear(self, runner: str) -> None:
        """Note that a runner called."""
        self._heard_at[runner] = datetime.now(UTC)
        self._unwritten.add(runner)

    async def find(self, names: Iterable[str]) -> dict[str, datetime]:
        """When those of the runners that are known were heard from last.

        Raises:
            Unavailable: the database does not answer.
        """
        wanted = set(names)
        query = select(runners.c.name, runners.c.heard_at).where(runners.c.name.in_(wanted))

        def work(connection: Connection) -> dict[str, datetime]:
            return {row.name: row.heard_at for row in connection.execute(query)}

        found = await self._database.read(work)
        for name in wanted & self._heard_at.keys():
            found[name] = max(self._heard_at[name], found.get(name, self._heard_at[name]))
        return found

    async def find_since(self, time: datetime, names: Iterable[str]) -> dict[str, datetime]:
        """When those were heard from last that were since a time, or are named.

        Raises:
            Unavailable: the database does not answer.
        """
        query = select(runners.c.name).where(runners.c.heard_at >= time)
        lately = await self._database.read(lambda connection: connection.execute(query).scalars().all())
        return await self.find(
            {*lately, *names, *(name for name, at in self._heard_at.items() if at >= time)}
        )

    async def run(self) -> None:
        """Write down what was heard, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_INTERVAL_SECONDS)
            try:
                await self.write()
            except Unavailable as error:
                logger.warning("runners that were heard from were not written down: %s", error)

    async def write(self) -> None:
        """Write down what is not written yet, and forget what is old.

        Raises:
            Unavailable: the database does not answer.
        """
        oldest = datetime.now(UTC) - KEPT
        rows = [{"key": name, "heard": self._heard_at[name]} for name in sorted(self._unwritten)]
        self._unwritten.clear()
        for name in [name for name, heard_at in self._heard_at.items() if heard_at < oldest]:
            del self._heard_at[name]
        if not rows:
            return

        def work(connection: Connection) -> None:
            for row in rows:
                insert_where_absent(connection, runners, {"name": row["key"], "heard_at": row["heard"]})
            connection.execute(_update_heard, rows)
            connection.execute(runners.delete().where(runners.c.heard_at < oldest))

        try:
            await self._database.write(work)
        except Unavailable:
            self._unwritten.update(str(row["key"]) for row in rows)
            raise


_update_heard = runners.update().where(runners.c.name == bindparam("key")).values(heard_at=bindparam("heard"))
