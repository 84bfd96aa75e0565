"""Watches where the server keeps things: whether they can be written, and how much room is left for them.

What was refused is tried again here, so that the server is ready by itself when there is room again.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

from stigmer_contract.disk_space import free_bytes, warning_of
from stigmer_server.blobs import BlobStore
from stigmer_server.database import Database
from stigmer_server.errors import Unavailable
from stigmer_server.tables import server_keys

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 5.0
PROBLEM_INTERVAL_SECONDS: Final = 0.5
MEASURE_INTERVAL_SECONDS: Final = 300.0
"""Every blob is looked at."""
FULL_BYTES: Final = 1024**2
"""With less than this a large event has no room."""


class StorageWatch:
    """Looks at the database and the disks, again and again."""

    def __init__(self, database: Database, blobs: BlobStore, blob_directory: Path) -> None:
        """Looks at nothing yet."""
        self._database = database
        self._blobs = blobs
        self._directories = {"blobs": blob_directory}
        if database.directory is not None:
            self._directories["database"] = database.directory
        self.free_bytes: dict[str, int] = {}
        """By what is kept there."""
        self.stored_bytes: dict[str, int] = {}
        """What it takes, by what it is."""
        self._told: str | None = None
        self._warned: set[str] = set()

    def find_problem(self) -> str | None:
        """Why the log cannot be kept; None where it can."""
        return self._database.condition.find_problem() or self._blobs.write_problem or self._find_full_disk()

    def find_warnings(self) -> list[str]:
        """What there is little room for, in a line each."""
        found = (warning_of(f"the {what}", free) for what, free in self.free_bytes.items())
        return [warning for warning in found if warning is not None]

    def look_at_disks(self) -> None:
        """Measure the room that is left, and log where it becomes little."""
        for what, directory in self._directories.items():
            free = free_bytes(directory)
            if free is not None:
                self.free_bytes[what] = free
        for what, free in self.free_bytes.items():
            warning = warning_of(f"the {what}", free)
            if warning is None:
                self._warned.discard(what)
            elif what not in self._warned:
                self._warned.add(what)
                logger.warning("%s", warning)

    async def run(self) -> None:
        """Watch, until cancelled."""
        looking = asyncio.create_task(self._look_for_damage(), name="look for damage")
        measuring = asyncio.create_task(self._measure_often(), name="measure")
        try:
            while True:
                self.look_at_disks()
                await self._try_again()
                self._tell()
                bad = self.find_problem() is not None
                await asyncio.sleep(PROBLEM_INTERVAL_SECONDS if bad else INTERVAL_SECONDS)
        finally:
            looking.cancel()
            measuring.cancel()
            await asyncio.wait([looking, measuring])

    async def _try_again(self) -> None:
        """Write a little where writing was refused."""
        if self._blobs.write_problem is not None:
            await self._blobs.try_to_write()
        if self._database.condition.write_problem is not None:
            # Changes nothing, and has to be written all the same.
            statement = server_keys.update().values(name=server_keys.c.name)
            try:
                await self._database.write(lambda connection: connection.execute(statement))
            except Unavailable:
                return  # why is noted

    def _find_full_disk(self) -> str | None:
        for what, free in self.free_bytes.items():
            if free < FULL_BYTES:
                return f"the disk of the {what} is full"
        return None

    def _tell(self) -> None:
        problem = self.find_problem()
        if problem is not None and problem != self._told:
            logger.error("%s", problem)
        elif problem is None and self._told is not None:
            logger.info("what the server keeps can be written again")
        self._told = problem

    async def _measure_often(self) -> None:
        while True:
            try:
                self.stored_bytes["database"] = await self._database.measure()
                self.stored_bytes["blobs"] = await self._blobs.measure()
            except Unavailable as error:
                logger.debug("%s", error)
            await asyncio.sleep(MEASURE_INTERVAL_SECONDS)

    async def _look_for_damage(self) -> None:
        try:
            await self._database.find_damage()  # what it finds is noted there
        except Unavailable as error:
            logger.warning("the database could not be looked through: %s", error)
