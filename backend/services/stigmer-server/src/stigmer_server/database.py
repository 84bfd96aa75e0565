"""Transactions on SQLite or PostgreSQL. Knows the engines' ways, and nothing of what the tables mean.

Work is a plain function over a SQLAlchemy `Connection`, so that one implementation serves both. On
SQLite it runs in a thread of its own, whole transactions at a time: with the asynchronous driver
(aiosqlite), which changes threads for each statement, the same append took 5.5 ms of CPU time instead of 1.6
(2 cores, 2026-11). On PostgreSQL it runs on asyncpg in the event loop.
"""

import asyncio
import contextlib
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import create_async_engine

from stigmer_server.errors import DatabaseUnusable, InvalidRequest, Unavailable

ResultT = TypeVar("ResultT")
Work = Callable[[Connection], ResultT]

SQLITE_BUSY_TIMEOUT_SECONDS: Final = 10.0
"""How long a writer waits for another process that writes."""
SQLITE_READERS: Final = 3
POSTGRES_CONNECTIONS: Final = 10
POSTGRES_CONNECT_TIMEOUT_SECONDS: Final = 5.0
POSTGRES_COMMAND_TIMEOUT_SECONDS: Final = 30.0
MIGRATION_LOCK_KEY: Final = 5_784_306_121
"""Any number, the same for all servers of one database (PostgreSQL's advisory locks)."""
_PASSING_STATES: Final = frozenset({"08", "40", "53", "55", "57", "58"})
"""Lost connections, deadlocks, exhausted resources, shutdowns: the same call may work later."""


class Database(ABC):
    """A database with two kinds of transactions.

    Both raise `Unavailable` where the database does not answer, and `InvalidRequest` where it cannot
    hold a value (such as a NUL character in PostgreSQL). Integrity errors pass through.
    """

    is_shared: bool
    """Whether other server processes may write to it."""

    @abstractmethod
    async def read(self, work: Work[ResultT]) -> ResultT:
        """Run `work` on one consistent state, without writing."""

    @abstractmethod
    async def write(self, work: Work[ResultT]) -> ResultT:
        """Run `work` and commit; everything is undone where it raises. Its rows are durable on return."""

    @abstractmethod
    async def migrate(self, work: Work[None]) -> None:
        """Run `work`, which changes tables, while no other process does the same."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of all connections."""


def open_database(url_text: str) -> Database:
    """The database at a URL. Nothing is connected yet.

    Raises:
        DatabaseUnusable: the URL makes no sense.
    """
    try:
        url = make_url(url_text)
    except ArgumentError as error:
        raise DatabaseUnusable("STIGMER_DATABASE_URL is not a database's URL") from error
    if url.get_backend_name() == "sqlite":
        return _SqliteDatabase(url)
    return _PostgresDatabase(url)


class _SqliteDatabase(Database):
    """One writer thread and a few readers, which WAL lets work at the same time."""

    is_shared = False

    def __init__(self, url: URL) -> None:
        if not url.database or url.database == ":memory:":
            raise DatabaseUnusable("STIGMER_DATABASE_URL names no file; write sqlite:////path/of/file")
        self._path = Path(url.database)
        plain = url.set(drivername="sqlite")
        self._write_engine = _sqlite_engine(plain, connections=1, begin="BEGIN IMMEDIATE")
        self._read_engine = _sqlite_engine(plain, connections=SQLITE_READERS, begin="BEGIN")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="database-writer")
        self._readers = ThreadPoolExecutor(SQLITE_READERS, thread_name_prefix="database-reader")

    async def read(self, work: Work[ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(
            self._readers, _transact, self._read_engine, work
        )

    async def write(self, work: Work[ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(
            self._writer, _transact, self._write_engine, work
        )

    async def migrate(self, work: Work[None]) -> None:
        # SQLite's tables change inside a transaction, and BEGIN IMMEDIATE admits one at a time.
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            await self.write(work)
        except (OSError, Unavailable, DatabaseError) as error:
            reason = error.orig if isinstance(error, DatabaseError) else error
            raise DatabaseUnusable(f"could not open the database {str(self._path)!r}: {reason}") from error

    async def close(self) -> None:
        for executor in (self._writer, self._readers):
            await asyncio.to_thread(executor.shutdown)
        self._write_engine.dispose()
        self._read_engine.dispose()


def _sqlite_engine(url: URL, *, connections: int, begin: str) -> Engine:
    engine = create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
        # Transactions are begun below; sqlite3 of its own would begin them late, and readers not at all.
        connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "isolation_level": None},
    )

    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute("PRAGMA journal_mode = wal")
            # FULL: a commit is on disk before it is acknowledged, so that an answer that was paid for
            # survives a power cut as well. Costs one fsync for each group commit (`event_log`).
            cursor.execute("PRAGMA synchronous = full")
            cursor.execute("PRAGMA foreign_keys = on")

    event.listen(engine, "connect", set_up)
    event.listen(engine, "begin", begin_transaction)
    return engine


def _transact(engine: Engine, work: Work[ResultT]) -> ResultT:
    with _translated_errors(), engine.begin() as connection:
        return work(connection)


class _PostgresDatabase(Database):
    """A pool of asyncpg connections. Other server processes may share the database."""

    is_shared = True

    def __init__(self, url: URL) -> None:
        self._engine = create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            pool_size=POSTGRES_CONNECTIONS,
            max_overflow=0,
            hide_parameters=True,
            pool_timeout=POSTGRES_COMMAND_TIMEOUT_SECONDS,
            connect_args={
                "timeout": POSTGRES_CONNECT_TIMEOUT_SECONDS,
                "command_timeout": POSTGRES_COMMAND_TIMEOUT_SECONDS,
            },
        )

    async def read(self, work: Work[ResultT]) -> ResultT:
        return await self.write(work)

    async def write(self, work: Work[ResultT]) -> ResultT:
        with _translated_errors():
            async with self._engine.begin() as connection:
                return await connection.run_sync(work)

    async def migrate(self, work: Work[None]) -> None:
        def locked(connection: Connection) -> None:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK_KEY})
            work(connection)

        try:
            await self.write(locked)
        except (Unavailable, DatabaseError) as error:
            reason = error.orig if isinstance(error, DatabaseError) else error
            raise DatabaseUnusable(f"could not open the database: {reason}") from error

    async def close(self) -> None:
        await self._engine.dispose()


@contextlib.contextmanager
def _translated_errors() -> Generator[None]:
    """Turn what the drivers raise into the server's own errors. No statement or value is repeated."""
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        # SQLSTATE classes (PostgreSQL 17, appendix A); SQLite has none, and raises `OperationalError`.
        state = str(getattr(error.orig, "sqlstate", None) or "")
        if isinstance(error, DataError) or state.startswith("22"):
            raise InvalidRequest("a value is too long, or holds a NUL character") from error
        if isinstance(error, OperationalError | InterfaceError) or state[:2] in _PASSING_STATES:
            raise Unavailable(f"the database does not answer: {error.orig}") from error
        raise
    except (PoolTimeout, OSError, TimeoutError) as error:
        raise Unavailable(f"the database does not answer: {error or type(error).__name__}") from error


def insert_where_absent(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless one with its key is there; waits for a transaction that inserts the same.

    Returns:
        Whether the row was inserted.
    """
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    result = connection.execute(dialect.insert(table).values(**values).on_conflict_do_nothing())
    return result.rowcount == 1
