"""What the server knows of a database: functions that run in transactions, and errors of its own."""

import contextlib
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import Connection, Executable, Table, case, func
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from stigmer_server.database.condition import DatabaseCondition
from stigmer_server.errors import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from sqlalchemy.dialects.postgresql import Insert as PostgresqlInsert
    from sqlalchemy.dialects.sqlite import Insert as SqliteInsert

ResultT = TypeVar("ResultT")
Work = Callable[[Connection], ResultT]

_PASSING_STATES: Final = frozenset({"08", "40", "53", "55", "57", "58"})
"""Lost connections, deadlocks, exhausted resources, shutdowns: the same call may work later."""
_PASSING_CODES: Final = frozenset({"25006", "25P03"})
"""`read_only_sql_transaction`, as of a standby, and `idle_in_transaction_session_timeout`: likewise."""


class Database(ABC):
    """A database with two kinds of transactions.

    Both raise `Unavailable` where the database does not answer (`DatabaseDamaged`: it is damaged), and
    `InvalidRequest` where it cannot hold a value (such as a NUL character in PostgreSQL). Integrity errors
    pass through.
    """

    is_shared: bool
    """Whether other server processes may write to it."""
    directory: Path | None = None
    """Where its file is, on a disk of this machine; None: it has none."""
    condition: DatabaseCondition
    """What its use has shown to be wrong with it."""

    @abstractmethod
    async def read(self, work: Work[ResultT]) -> ResultT:
        """Run `work`, which does not write."""

    @abstractmethod
    async def write(self, work: Work[ResultT]) -> ResultT:
        """Run `work` and commit; everything is undone where it raises. Its rows are durable on return."""

    @abstractmethod
    async def migrate(self, work: Work[None]) -> None:
        """Run `work`, which changes tables, while no other process does the same.

        Raises:
            DatabaseUnusable: the database cannot be opened.
        """

    @abstractmethod
    async def find_damage(self) -> None:
        """Look through the whole database for damage, however long that takes, and note it in `condition`.

        Does nothing where the engine cannot, or where the start has done it.

        Raises:
            Unavailable: it cannot be looked through.
        """

    @abstractmethod
    async def measure(self) -> int:
        """How many bytes the database takes.

        Raises:
            Unavailable: it cannot be told.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of all connections."""


@contextlib.contextmanager
def translated_errors(condition: DatabaseCondition) -> Generator[None]:
    """Turn what the drivers raise into the server's own errors, and note what they say of the database.

    No statement or value is repeated.
    """
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        if (damaged := condition.note_error(error)) is not None:
            raise damaged from error
        # SQLSTATE classes (PostgreSQL 17, appendix A); SQLite has none, and raises `OperationalError`.
        state = str(getattr(error.orig, "sqlstate", None) or "")
        if isinstance(error, DataError) or state.startswith("22"):
            raise InvalidRequest("a value is too long, or holds a NUL character") from error
        is_away = error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
        if is_away or state[:2] in _PASSING_STATES or state in _PASSING_CODES:
            raise Unavailable(f"the database does not answer: {error.orig}") from error
        raise
    except (PoolTimeout, OSError, TimeoutError) as error:
        raise Unavailable(f"the database does not answer: {error or type(error).__name__}") from error


def insert_where_absent(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless one with its key is there; waits for a transaction that inserts the same.

    Returns:
        Whether the row was inserted.
    """
    return connection.execute(_insert_where_absent(connection.dialect.name, table), values).rowcount == 1


def insert_all_where_absent(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows of which none with their key is there."""
    if rows:
        connection.execute(_insert_where_absent(connection.dialect.name, table), rows)


def insert_or_add(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], summed: tuple[str, ...]
) -> None:
    """Insert rows; where one with its key is there, add the `summed` columns to it, NULL being nothing."""
    if rows:
        connection.execute(_insert_or_add(connection.dialect.name, table, summed), rows)


# Built once: that takes SQLAlchemy several times as long as SQLite to run them.
@functools.cache
def _insert_where_absent(dialect: str, table: Table) -> Executable:
    return _insert_of(dialect)(table).on_conflict_do_nothing()


@functools.cache
def _insert_or_add(dialect: str, table: Table, summed: tuple[str, ...]) -> Executable:
    statement = _insert_of(dialect)(table)
    added = {
        name: case(
            (table.c[name].is_(None), statement.excluded[name]),
            else_=table.c[name] + func.coalesce(statement.excluded[name], 0),
        )
        for name in summed
    }
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=added)


def _insert_of(dialect: str) -> "type[PostgresqlInsert | SqliteInsert]":
    # The dialect in use has been imported long ago; the other one would take 0.05 s.
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import Insert

        return Insert
    from sqlalchemy.dialects.sqlite import Insert

    return Insert
