"""SQLite: whole transactions in threads of their own, one writer and a few readers.

With the asynchronous driver (aiosqlite), which changes threads for every statement, the same append took
two to three times the CPU time (2 cores, 2026-11).
"""

import asyncio
import contextlib
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError

from stigmer_contract.sqlite_damage import DamageSearch
from stigmer_server.database.condition import DatabaseCondition, may_pass
from stigmer_server.database.transactions import Database, ResultT, Work, translated_errors
from stigmer_server.errors import DatabaseAway, DatabaseBroken, DatabaseDamaged, DatabaseUnusable, Unavailable

BUSY_TIMEOUT_SECONDS: Final = 10.0
"""How long a writer waits for another process that writes."""
READERS: Final = 3
START_CHECK_SECONDS: Final = 2.0
"""How long a start looks for damage; what it does not get through is looked at while the server works."""


class SqliteDatabase(Database):
    """One writer thread and a few readers, which WAL lets work at the same time."""

    is_shared = False

    def __init__(self, url: URL) -> None:
        """Nothing is opened yet."""
        if not url.database or url.database == ":memory:":
            raise DatabaseUnusable("STIGMER_DATABASE_URL names no file; write sqlite:////path/of/file")
        self._path = Path(url.database)
        self.directory = self._path.parent
        remedy = (
            "stop the stack, then put a backup in the file's place, or recover what can be read: "
            f"`sqlite3 {self._path.name} .recover | sqlite3 recovered.db`"
        )
        self.condition = DatabaseCondition(f"the database {str(self._path)!r}", remedy)
        self._is_looked_through = False
        plain = url.set(drivername="sqlite")
        self._write_engine = _make_engine(plain, connections=1, begin="BEGIN IMMEDIATE")
        self._read_engine = _make_engine(plain, connections=READERS, begin="BEGIN")
        self._held = threading.local()
        self._connections: list[Connection] = []
        """What the threads hold."""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="database-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="database-reader")

    async def read(self, work: Work[ResultT]) -> ResultT:
        """Run `work` on one consistent state."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._transact, self._read_engine, work)

    async def write(self, work: Work[ResultT]) -> ResultT:
        """Run `work` after all others that write."""
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(self._writer, self._transact, self._write_engine, work)
        self.condition.note_write()
        return result

    async def migrate(self, work: Work[None]) -> None:
        """Look for damage, then run `work`.

        SQLite changes tables inside a transaction; BEGIN IMMEDIATE admits one at a time.
        """
        try:
            await asyncio.to_thread(self._path.parent.mkdir, parents=True, exist_ok=True)
            await self._look_through(START_CHECK_SECONDS)
            await self.write(work)
        except DatabaseDamaged as error:
            raise DatabaseBroken(f"{error.detail}; {error.hint}") from error
        except (OSError, Unavailable, DatabaseError) as error:
            reason = error.orig if isinstance(error, DatabaseError) else error
            message = f"could not open the database {str(self._path)!r}: {reason}"
            if isinstance(error, Unavailable) and may_pass(error):
                raise DatabaseAway(message) from error
            raise DatabaseUnusable(message) from error

    async def find_damage(self) -> None:
        """Look through what the start did not get through."""
        if not self._is_looked_through:
            with contextlib.suppress(DatabaseDamaged):  # it is noted
                await self._look_through(None)

    async def _look_through(self, limit_seconds: float | None) -> None:
        """Read every page, for at most so long.

        Raises:
            DatabaseDamaged: one is not as it should be.
            Unavailable: the file cannot be read.
        """
        if not self._path.exists():
            return
        look = DamageSearch(self._path, limit_seconds)
        try:
            found = await asyncio.to_thread(look.run)
        except asyncio.CancelledError:
            look.stop()
            raise
        except sqlite3.Error as error:
            raise Unavailable(str(error)) from error
        if not look.is_done:
            return
        if found is not None:
            raise self.condition.note_damage(found)
        self._is_looked_through = True

    async def measure(self) -> int:
        """The file, and the part of the log that is not in it yet."""
        files = (self._path, self._path.with_name(f"{self._path.name}-wal"))
        try:
            return sum(file.stat().st_size for file in files if file.exists())
        except OSError as error:
            raise Unavailable(f"the database cannot be measured: {error.strerror}") from error

    async def close(self) -> None:
        """Finish what is in hand, and close the file."""
        for executor in (self._writer, self._readers):
            await asyncio.to_thread(executor.shutdown)
        for connection in self._connections:
            connection.close()
        self._write_engine.dispose()
        self._read_engine.dispose()

    def _transact(self, engine: Engine, work: Work[ResultT]) -> ResultT:
        """Runs in a thread, which works on one engine only and keeps its connection.

        To take it from the pool and give it back took as long as a short transaction itself (2026-11).
        """
        with translated_errors(self.condition):
            connection: Connection | None = getattr(self._held, "connection", None)
            if connection is None:
                connection = self._held.connection = engine.connect()
                self._connections.append(connection)
            try:
                with connection.begin():
                    return work(connection)
            except BaseException:
                # Whatever state it is in, the next transaction gets one that is in order.
                self._held.connection = None
                self._connections.remove(connection)
                connection.close()
                raise


def _make_engine(url: URL, *, connections: int, begin: str) -> Engine:
    engine = create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
        # Transactions are begun below; sqlite3 of its own would begin them late, and readers not at all.
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "isolation_level": None},
    )

    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", begin_transaction)
    return engine


def _set_up(connection: sqlite3.Connection, _record: object) -> None:
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute("PRAGMA journal_mode = wal")
        # FULL: a commit is on disk before it is acknowledged, so that an answer that was paid for
        # survives a power cut as well. Costs one fsync for each group commit (`event_log`).
        cursor.execute("PRAGMA synchronous = full")
        cursor.execute("PRAGMA foreign_keys = on")
