"""PostgreSQL: a pool of asyncpg connections in the event loop. Other server processes may share it."""

from typing import Final

import asyncpg
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import create_async_engine

from stigmer_server.database.condition import DatabaseCondition
from stigmer_server.database.transactions import Database, ResultT, Work, translated_errors
from stigmer_server.errors import DatabaseAway, DatabaseBroken, DatabaseDamaged, DatabaseUnusable, Unavailable

CONNECTIONS: Final = 10
CONNECT_TIMEOUT_SECONDS: Final = 5.0
COMMAND_TIMEOUT_SECONDS: Final = 30.0
IDLE_IN_TRANSACTION_SECONDS: Final = 10.0
"""After so long PostgreSQL ends a transaction of whose server it hears no more, and gives its locks back: the
server was frozen, or its machine is gone. Else they would be held for two hours (keepalive of Linux)."""
_REFUSALS: Final = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
"""Wrong user, password or database: waiting cannot help."""
_DAMAGE_REMEDY: Final = "stop the server and restore a backup, or see PostgreSQL's log and `pg_amcheck`"
MIGRATION_LOCK_KEY: Final = 5_784_306_121
"""Any number, the same for all servers of one database."""


class PostgresDatabase(Database):
    """Transactions at PostgreSQL's default isolation; what must not change meanwhile is locked by `work`."""

    is_shared = True

    def __init__(self, url: URL) -> None:
        """Nothing is connected yet."""
        self.condition = DatabaseCondition(f"the database {url.database!r}", _DAMAGE_REMEDY)
        self._engine = create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=COMMAND_TIMEOUT_SECONDS,
            hide_parameters=True,
            connect_args={
                "timeout": CONNECT_TIMEOUT_SECONDS,
                "command_timeout": COMMAND_TIMEOUT_SECONDS,
                "server_settings": {
                    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_SECONDS * 1000:.0f}"
                },
            },
        )
        event.listen(self._engine.sync_engine, "handle_error", _drop_stuck_connection)

    async def read(self, work: Work[ResultT]) -> ResultT:
        """Run `work`; each of its statements sees one consistent state."""
        with translated_errors(self.condition):
            async with self._engine.begin() as connection:
                return await connection.run_sync(work)

    async def write(self, work: Work[ResultT]) -> ResultT:
        """Run `work` beside others that write."""
        with translated_errors(self.condition):
            async with self._engine.begin() as connection:
                result = await connection.run_sync(work)
        self.condition.note_write()
        return result

    async def migrate(self, work: Work[None]) -> None:
        """Run `work` under an advisory lock, which ends with the transaction."""

        def locked(connection: Connection) -> None:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK_KEY})
            work(connection)

        try:
            await self.write(locked)
        except DatabaseDamaged as error:
            raise DatabaseBroken(f"{error.detail}; {error.hint}") from error
        except Unavailable as error:
            if isinstance(
                _first_cause(error),
                asyncpg.InvalidAuthorizationSpecificationError | asyncpg.InvalidCatalogNameError,
            ):
                raise DatabaseUnusable(f"could not open the database: {error}") from error
            raise DatabaseAway(str(error)) from error
        except DatabaseError as error:
            raise DatabaseUnusable(f"could not open the database: {error.orig}") from error

    async def find_damage(self) -> None:
        """Nothing to do: PostgreSQL's own tools look through it."""

    async def measure(self) -> int:
        """As PostgreSQL counts it, with indexes."""

        def work(connection: Connection) -> int:
            size: int = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
            return size

        return await self.read(work)

    async def close(self) -> None:
        """Close the pool."""
        await self._engine.dispose()


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _drop_stuck_connection(context: ExceptionContext) -> None:
    """Take a connection for lost that was cut in the middle of an operation.

    asyncpg (0.32) then answers every call on it with "another operation is in progress", which SQLAlchemy
    (2.1) does not know as a sign of a lost connection, so that it would stay in the pool for good.
    """
    cause = context.original_exception.__cause__
    if isinstance(cause, asyncpg.InternalClientError | asyncpg.OperatorInterventionError):
        context.is_disconnect = True
