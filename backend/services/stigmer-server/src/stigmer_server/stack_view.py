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
from stigmer_server.runner_reports import Reported, RunnerReports
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
        reports: RunnerReports,
    ) -> None:
        self._database = database
        self._temporal = temporal
        self._installation = installation
        self._presence = presence
        self._reports = reports

    async def find(self) -> tuple[QueueState, list[RunnerState]]:
        """What stands before the runners, whoever it is of; and the runners that were heard of lately or have
        something in hand, the one heard of last first."""
        pending, in_hand = await self._database.read(_count)
        since = datetime.now(UTC) - LATELY
        heard = await self._presence.find_since(since, in_hand)
        reported = await self._reports.find()
        names = {*heard, *(name for name, told in reported.items() if told.at >= since)}
        runners = [
            _describe(name, heard.get(name), reported.get(name), in_hand.get(name, 0))
            for name in names
            if name in in_hand or name not in reported or not reported[name].ended
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


def _describe(name: str, heard_at: datetime | None, told: Reported | None, in_hand: int) -> RunnerState:
    at = max(time for time in (heard_at, told and told.at) if time is not None)
    if told is None or told.report is None:
        return RunnerState(name=name, heard_at=at, in_hand=in_hand)
    kept = told.report.model_dump(include={"version", "slots", "draining", "isolation", "findings"})
    return RunnerState(name=name, heard_at=at, in_hand=in_hand, **kept)


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
