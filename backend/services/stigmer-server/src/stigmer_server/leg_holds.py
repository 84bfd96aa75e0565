"""Legs whose runners say that they still work on them, though Temporal may have lost the activity.

Such a runner is healthy, and finishes the step in hand: who else asks for the execution waits meanwhile, and
the runner is told that somebody does. Every server counts in the database how often it was said, and each
sees by its own clock that a count stays as it is: no two clocks are compared.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, case, exists, select

from stigmer_server.database import Database, insert_where_absent
from stigmer_server.tables import executions, leg_holds

HOLD_SECONDS: Final = 4.0
"""A runner that says no more is dead or cut off, and the next one goes on. They say so each second."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A count as this server saw it first."""

    attempt: int
    count: int
    until: float
    """As long as it counts; by this server's monotonic clock."""


class LegHolds:
    """Who holds which execution's leg."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._database = database
        self._clock = clock
        self._holds: dict[str, _Seen] = {}
        self._wants: dict[str, _Seen] = {}

    async def hold(self, execution_id: str, attempt: int) -> bool:
        """Note that the attempt's runner works on; whether another one waits for the execution.

        Raises:
            Unavailable: the database does not answer.
        """
        key = {"execution": execution_id, "current": attempt}

        def work(connection: Connection) -> tuple[int, int]:
            row = {"execution_id": execution_id, "attempt": attempt, "holds": 0, "wants": 0}
            insert_where_absent(connection, leg_holds, row)
            connection.execute(_hold, key)
            holds, wants = connection.execute(_select_counts, key).one()
            if holds == 1:
                connection.execute(_delete_those_over, key)
            return holds, wants

        holds, wants = await self._database.write(work)
        self._forget_what_is_over()
        self._holds[execution_id] = _Seen(attempt, holds, self._clock() + HOLD_SECONDS)
        return wants > 0 and self._is_fresh(self._wants, execution_id, attempt, wants)

    async def find(self, execution_id: str) -> int | None:
        """The attempt whose runner said lately that it works on; None where nobody said so.

        Raises:
            Unavailable: the database does not answer.
        """
        row = await self._database.read(
            lambda connection: connection.execute(_select_held, {"execution": execution_id}).one_or_none()
        )
        if row is None or not self._is_fresh(self._holds, execution_id, row.attempt, row.holds):
            return None
        return row.attempt

    async def want(self, execution_id: str) -> None:
        """Note that another runner asks for the execution.

        Raises:
            Unavailable: the database does not answer.
        """
        await self._database.write(
            lambda connection: connection.execute(_want, {"execution": execution_id}).close()
        )

    def _is_fresh(self, seen: dict[str, _Seen], execution_id: str, attempt: int, count: int) -> bool:
        """Whether the count was another one a moment ago, or was not looked at yet."""
        before = seen.get(execution_id)
        if before is not None and (before.attempt, before.count) == (attempt, count):
            return before.until > self._clock()
        seen[execution_id] = _Seen(attempt, count, self._clock() + HOLD_SECONDS)
        return True

    def _forget_what_is_over(self) -> None:
        """What is forgotten would count once more if it was asked for: kept for longer than anybody asks."""
        oldest = self._clock() - _KEPT_SECONDS
        for seen in (self._holds, self._wants):
            for execution_id in [key for key, each in seen.items() if each.until < oldest]:
                del seen[execution_id]


_KEPT_SECONDS: Final = 3600.0
_here = leg_holds.c.execution_id == bindparam("execution")
_is_current = leg_holds.c.attempt == bindparam("current")
_hold = (
    leg_holds.update()
    .where(_here)
    .values(
        attempt=bindparam("current"),
        holds=case((_is_current, leg_holds.c.holds + 1), else_=1),
        wants=case((_is_current, leg_holds.c.wants), else_=0),
    )
)
_want = leg_holds.update().where(_here).values(wants=leg_holds.c.wants + 1)
_select_counts = select(leg_holds.c.holds, leg_holds.c.wants).where(_here)
_select_held = select(leg_holds.c.attempt, leg_holds.c.holds).where(_here)
_those_over = (
    select(leg_holds.c.execution_id)
    .where(
        leg_holds.c.execution_id != bindparam("execution"),
        ~exists().where(
            executions.c.execution_id == leg_holds.c.execution_id, executions.c.leg_runner.is_not(None)
        ),
    )
    # Another server may have one in hand, and wait for what this one has: two would wait for each other.
    .with_for_update(of=leg_holds, skip_locked=True)
)
_delete_those_over = leg_holds.delete().where(leg_holds.c.execution_id.in_(_those_over))
