"""Looks at the database, past all links, ten times a second: who had what in hand, and how far it was."""

import asyncio
import contextlib
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import asyncpg

LOOK_SECONDS: Final = 0.1
_TIMEOUT_SECONDS: Final = 3.0
_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what a connection says after a time-out in the middle (0.32)
)
"""PostgreSQL is killed and frozen, too."""
_QUERY: Final = (
    "SELECT execution_id, attempt, last_sequence, leg_runner FROM executions "
    "WHERE phase IN ('pending', 'in_progress', 'waiting')"
)


@dataclass(frozen=True)
class InHand:
    """A leg that a runner had."""

    execution_id: str
    attempt: int


@dataclass(frozen=True)
class Sighting:
    """How an execution stood when it was first seen so."""

    at: float
    """On the monotonic clock."""
    attempt: int
    last_sequence: int
    runner: str | None


class Watch:
    """Keeps what it sees. A context manager."""

    def __init__(self, database_url: str) -> None:
        """Begins when entered."""
        self.sightings: dict[str, list[Sighting]] = defaultdict(list)
        """By execution, in order."""
        self.ended_at: dict[str, float] = {}
        """When executions were first seen to have ended."""
        self._url = database_url
        self._open: dict[str, Sighting] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), name="watch", daemon=True)

    def in_hand(self, runner: str) -> list[InHand]:
        """The legs that a runner had at the last look."""
        return [
            InHand(execution_id, seen.attempt)
            for execution_id, seen in list(self._open.items())
            if seen.runner == runner
        ]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join(_TIMEOUT_SECONDS * 4)

    async def _watch(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(*_AWAY):
                connection = await asyncpg.connect(self._url, timeout=_TIMEOUT_SECONDS)
                try:
                    while not self._ending.is_set():
                        await self._look(connection)
                        await asyncio.sleep(LOOK_SECONDS)
                finally:
                    connection.terminate()
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, connection: asyncpg.Connection) -> None:
        rows = await connection.fetch(_QUERY, timeout=_TIMEOUT_SECONDS)
        now = time.monotonic()
        seen = dict[str, Sighting]()
        for execution_id, attempt, last_sequence, runner in rows:
            before = self._open.get(execution_id)
            sighting = Sighting(now, attempt, last_sequence, runner)
            if before is not None and (before.attempt, before.last_sequence, before.runner) == (
                attempt,
                last_sequence,
                runner,
            ):
                sighting = before
            else:
                self.sightings[execution_id].append(sighting)
            seen[execution_id] = sighting
        for execution_id in self._open.keys() - seen.keys():
            self.ended_at[execution_id] = now
        self._open = seen
