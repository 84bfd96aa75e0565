"""Starts the stack's own Temporal on a sound file: a damaged one is moved aside first, never deleted.

Temporal holds nothing that the log does not: the server starts every workflow anew that it has lost.
"""

import asyncio
import logging
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from stigmer_cli.stack.component import LineSink
from stigmer_cli.stack.process_launcher import ProcessLauncher, RunningProcess
from stigmer_contract.sqlite_damage import DamageSearch

logger = logging.getLogger(__name__)

KEPT_ASIDE = ".damaged-"
"""In the name of a file that was moved aside, before the time."""
CHECK_SECONDS = 1.5
"""How long a start looks for damage; of what lies beyond Temporal complains itself."""
BELIEVED_COMPLAINTS = 2
"""So many, and the file is damaged in a way that a search does not show."""
_COMPLAINTS = ("database disk image is malformed", "file is not a database")
"""What SQLite says, in Temporal's own log, of a file that is damaged."""
_SUFFIXES = ("", "-wal", "-shm", "-journal")


class TemporalLauncher:
    """Starts Temporal, one process after the other."""

    def __init__(self, process: ProcessLauncher, database: Path) -> None:
        self._process = process
        self._database = database
        self._complaints = 0
        """Of Temporal's own, in so many lives in a row."""

    async def launch(self, write_line: LineSink) -> RunningProcess:
        """Moves the database aside where it is damaged, then starts the process.

        Raises:
            OSError: the program is missing or cannot be run, or the file cannot be moved.
        """
        if (damage := await asyncio.to_thread(self._find_damage)) is not None:
            self._complaints = 0
            moved = move_aside(self._database)
            said = f"{self._database} is damaged ({damage}) and was moved to {moved}"
            logger.error("%s; executions go on from the log", said)
            write_line(f"{said}; executions go on from the log")
        complaints, running = self._complaints, None

        def watch_line(line: str) -> None:
            write_line(line)
            if self._complaints == complaints and any(complaint in line for complaint in _COMPLAINTS):
                self._complaints += 1
                if running is not None:  # on such a file it would go on for ever, and do nothing
                    running.kill()

        running = await self._process.launch(watch_line)
        return running

    async def prepare(self, write_line: LineSink) -> None:
        """Does nothing: a start is all there is."""

    async def close(self) -> None:
        """Does nothing: nothing is prepared."""

    def _find_damage(self) -> str | None:
        if not self._database.exists():
            return None
        if self._complaints >= BELIEVED_COMPLAINTS:
            return "Temporal says so"
        try:
            return DamageSearch(self._database, None if self._complaints else CHECK_SECONDS).run()
        except sqlite3.Error as error:
            logger.warning("Temporal's database could not be looked through: %s", error)
            return None


def move_aside(database: Path) -> Path:
    """Gives a database with all that belongs to it another name.

    Raises:
        OSError: it cannot be moved.
    """
    target = database.with_name(f"{database.name}{KEPT_ASIDE}{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z")
    for suffix in _SUFFIXES:
        source = database.with_name(database.name + suffix)
        if source.exists():
            source.rename(target.with_name(target.name + suffix))
    return target
