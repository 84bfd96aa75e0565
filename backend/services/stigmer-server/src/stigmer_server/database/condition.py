"""What is wrong with a database, as far as its use showed: it is damaged, or does not take what is written.

Damage stays until the process ends; that nothing can be written is over with the next write that works.
"""

import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError

from stigmer_contract.sqlite_damage import DAMAGE_CODES, primary_code
from stigmer_server.errors import DatabaseDamaged, Unavailable

_SQLITE_PASSING: Final = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
)
_SQLITE_REFUSED_WRITE: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
)
_POSTGRES_DAMAGE: Final = frozenset({"XX001", "XX002"})
"""`data_corrupted` and `index_corrupted` (PostgreSQL 17, appendix A)."""
_POSTGRES_REFUSED_WRITE: Final = frozenset({"53100", "25006"})
"""`disk_full` and `read_only_sql_transaction`."""


class DatabaseCondition:
    """What the newest use of a database found."""

    def __init__(self, name: str, remedy: str) -> None:
        """`name` is what a person calls the database; `remedy`, what to do where it is damaged."""
        self._name = name
        self.remedy = remedy
        self.damage: str | None = None
        """How it is damaged; None: as far as is known, it is not."""
        self.write_problem: str | None = None
        """Why the newest write was refused; None: it was not."""

    def note_damage(self, reason: str) -> DatabaseDamaged:
        """The database is damaged; gives the error that tells of it."""
        if self.damage is None:
            self.damage = f"{self._name} is damaged: {reason}"
        return DatabaseDamaged(self.damage, self.remedy)

    def note_error(self, error: DBAPIError) -> DatabaseDamaged | None:
        """A driver's error; gives the error that tells of damage, where it is that."""
        if _is_one_of(error, DAMAGE_CODES, _POSTGRES_DAMAGE):
            return self.note_damage(str(error.orig))
        if _is_one_of(error, _SQLITE_REFUSED_WRITE, _POSTGRES_REFUSED_WRITE):
            self.write_problem = f"{self._name} cannot be written: {error.orig}"
        return None

    def note_write(self) -> None:
        """Something was written."""
        self.write_problem = None

    def find_problem(self) -> str | None:
        """What is wrong, for a person; None: nothing that is known."""
        return self.write_problem if self.damage is None else f"{self.damage}; {self.remedy}"


def may_pass(error: Unavailable) -> bool:
    """Whether what kept a SQLite file from being opened may be over soon: another program, a full disk."""
    cause = error.__cause__
    return isinstance(cause, DBAPIError) and _is_one_of(cause, _SQLITE_PASSING, frozenset())


def _is_one_of(error: DBAPIError, sqlite_codes: frozenset[int], postgres_states: frozenset[str]) -> bool:
    if isinstance(error.orig, sqlite3.Error):
        return primary_code(error.orig) in sqlite_codes
    return str(getattr(error.orig, "sqlstate", None) or "") in postgres_states
