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

    async def find(self) -> tuple[QueueState, list[RunnerState]]:
        """What stands before the runners, whoever it is of; and the runners that were heard of lately or have
        something in hand, the one heard of last first."""
        pending, in_hand = await self._database.read(_count)
        heard = await self._presence.find_since(datetime.now(UTC) - LATELY, in_hand)
        runners = [
            RunnerState(name=name, heard_at=heard_at, in_hand=in_hand.get(name, 0))
            for name, heard_at in heard.items()
        ]
        runners.sort(key=lambda state: (state.heard_at, state.name), reverse=True)
        queues = [self._installation.nameless_task_queue, *self._installation.task_queues]
        queue = QueueState(
            pending=pending, in_hand=sum(in_hand.values()), problem=await self._find_problem(queues)
        )
        return queue, runners[:MOST_RUNNERS]

    async def _find_problem(self, queues: list[str]) -> str | None:
        try:
            return await self._temporal.find_queue_problem(queues)
        except TemporalUnavailable as error:
            return str(error)


def _count(connection: Connection) -> tuple[int, dict[str, int]]:
    """How many executions are pending, and how many each runner has in hand."""
    pending = select(func.count()).where(executions.c.phase == ExecutionPhase.PENDING.value)
    in_hand = (
        select(executions.c.leg_runner, func.count())
        .where(executions.c.leg_runner.is_not(None))
        .group_by(executions.c.leg_runner)
    )
    counted = {row[0]: row[1] for row in connection.execute(in_hand)}
    return connection.execute(pending).scalar_one(), counted
