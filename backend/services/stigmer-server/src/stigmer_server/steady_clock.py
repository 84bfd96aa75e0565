"""Time as it goes by, for `limits.duration`: no step of a wall clock moves it.

It is the machine's clock since its start, which server processes of one machine share and which goes on while
the machine is suspended. When that clock began is kept in the database for each start of a machine, as the
database's clock said it when a server was first there: a later process counts on from there, whatever its own
wall clock says. Where a system does not tell its starts apart, each process begins anew by the wall clock.
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, func, select

from stigmer_server.database import Database, insert_where_absent
from stigmer_server.tables import machine_starts

BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")
"""Another one after each start; proc(5)."""


def seconds_since_start() -> float:
    """Since this machine's start, the time that it was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


def _find_boot_id() -> str | None:
    try:
        return BOOT_ID_FILE.read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


class SteadyClock:
    """The clock; `load` comes before what is to be compared with what other processes noted."""

    def __init__(
        self,
        database: Database,
        seconds: Callable[[], float] = seconds_since_start,
        boot_id: str | None = None,
    ) -> None:
        """`boot_id` tells the machine's starts apart; None: as the system says."""
        self._database = database
        self._seconds = seconds
        self._boot_id = boot_id or _find_boot_id()
        self._began_at = datetime.now(UTC) - timedelta(seconds=seconds())

    def now(self) -> datetime:
        """Aware UTC, near the wall clock while that is not set anew. To be compared with its like only."""
        return self._began_at + timedelta(seconds=self._seconds())

    async def load(self) -> None:
        """Count on from what this machine's first server noted.

        Raises:
            Unavailable: the database does not answer.
        """
        boot_id = self._boot_id
        if boot_id is None:
            return

        def work(connection: Connection) -> datetime:
            is_shared = connection.dialect.name == "postgresql"
            now: datetime = (
                connection.execute(select(func.clock_timestamp())).scalar_one()
                if is_shared
                else datetime.now(UTC)
            )
            row = {"boot_id": boot_id, "began_at": now - timedelta(seconds=self._seconds())}
            insert_where_absent(connection, machine_starts, row)
            began_at: datetime = connection.execute(
                select(machine_starts.c.began_at).where(machine_starts.c.boot_id == boot_id)
            ).scalar_one()
            return began_at

        self._began_at = await self._database.write(work)
