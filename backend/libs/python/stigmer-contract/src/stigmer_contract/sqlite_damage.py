"""Finds damage in a file of SQLite's, the server's own or Temporal's, by reading every page of it.

Changes nothing in the database; indexes are not compared with their tables.
"""

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Final

DAMAGE_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""Result codes by which SQLite says that a file is damaged (https://sqlite.org/rescode.html)."""
_PRIMARY_CODE: Final = 0xFF
"""Of an extended result code."""
_BUSY_SECONDS: Final = 5.0
_STEPS_BETWEEN_LOOKS_AT_THE_CLOCK: Final = 100_000
"""Of SQLite's virtual machine: some milliseconds."""


def primary_code(error: sqlite3.Error) -> int | None:
    """SQLite's result code; None: the error is the module's own."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & _PRIMARY_CODE


class DamageSearch:
    """Looks through a file once, on a connection of its own."""

    def __init__(self, path: Path, limit_seconds: float | None = None) -> None:
        """`limit_seconds` bounds `run`; None: it ends with the last page."""
        self.is_done = False
        """Whether all of the file was read."""
        self._path = path
        self._limit_seconds = limit_seconds
        self._is_stopped = False

    def run(self) -> str | None:
        """How the file is damaged; None: it is not, as far as it was read. Blocks.

        Raises:
            sqlite3.Error: it cannot be read.
        """
        end = None if self._limit_seconds is None else time.monotonic() + self._limit_seconds

        def must_end() -> bool:
            return self._is_stopped or (end is not None and time.monotonic() > end)

        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS)) as connection:
                connection.set_progress_handler(must_end, _STEPS_BETWEEN_LOOKS_AT_THE_CLOCK)
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            if primary_code(error) == sqlite3.SQLITE_INTERRUPT:
                return None
            if primary_code(error) not in DAMAGE_CODES:
                raise
            found = str(error)
        self.is_done = True
        return None if found == "ok" else " ".join(str(found).split())

    def stop(self) -> None:
        """Let `run` return, from another thread."""
        self._is_stopped = True
