"""How the installation stands: its runners as they were heard of, and what stands before them. Reads only."""

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select

from stigmer_contract.api import QueueState, RunnerState
from stigmer_contract.phases import ExecutionPhase
from stigmer_server.database import Database
from stigmer_server.errors import TemporalUnavailable
from stigmer_server.installation import Installation
from stigmer_server.runner_presence import RunnerPresence
from stigmer_server.tables import executions
from stigmer_server.temporal_client import TemporalClient

LATELY: Final = timedelta(hours=1)
"""A runner that was not heard of for longer, and has nothing in hand, is not listed."""
MOST_RUNNERS: Final = 200


class StackView:
    """Looks at the installation as a whole."""

    def __init__(
        self,
        database: Database,
        temporal: TemporalClient,
        installation: Installation,
        presence: RunnerPresence,
    ) -> None:
        self._database = database
        self._temporal = temporal
        self._installation = installation
        self._presence = presence

    async def find_runners(self) -> list[RunnerState]:
        """Those that were heard of lately or have something in hand, the one heard of last first."""
        in_hand = await self._database.read(_count_in_hand)
        heard = await self._presence.find_since(datetime.now(UTC) - LATELY, in_hand)
        states = [
            RunnerState(name=name, heard_at=heard_at, in_hand=in_hand.get(name, 0))
            for name, heard_at in heard.items()
        ]
        return sorted(states, key=lambda state: (state.heard_at, state.name), reverse=True)[:MOST_RUNNERS]

    async def find_queue(self) -> QueueState:
        """What stands before the runners, whoever it is of."""

        def count(connection: Connection) -> int:
            query = select(func.count()).where(executions.c.phase == ExecutionPhase.PENDING.value)
            return connection.execute(query).scalar_one()

        queues = [self._installation.nameless_task_queue, *self._installation.task_queues]
        return QueueState(
            pending=await self._database.read(count),
            in_hand=sum((await self._database.read(_count_in_hand)).values()),
            problem=await self._find_problem(queues),
        )

    async def _find_problem(self, queues: list[str]) -> str | None:
        try:
            return await self._temporal.find_queue_problem(queues)
        except TemporalUnavailable as error:
            return str(error)


def _count_in_hand(connection: Connection) -> dict[str, int]:
    query = (
        select(executions.c.leg_runner, func.count())
        .where(executions.c.leg_runner.is_not(None))
        .group_by(executions.c.leg_runner)
    )
    return {row[0]: row[1] for row in connection.execute(query)}
