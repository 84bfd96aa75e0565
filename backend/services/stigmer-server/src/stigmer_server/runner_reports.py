"""What runners tell of themselves, for people to look at: version, isolation, slots. It decides nothing."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import ValidationError
from sqlalchemy import Connection, select

from stigmer_contract.api import RunnerReport
from stigmer_server.database import Database, insert_where_absent
from stigmer_server.tables import runner_reports

KEPT: Final = timedelta(days=1)
"""Of a runner that tells nothing any more."""


@dataclass(frozen=True)
class Reported:
    """What a runner told last, and when."""

    at: datetime
    ended: bool
    report: RunnerReport | None


class RunnerReports:
    """The newest report of each runner, for all servers of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, report: RunnerReport) -> None:
        """Keep what a runner tells.

        Raises:
            Unavailable: the database does not answer.
        """
        await self._write(report.runner, ended=report.ended, report=report.model_dump_json())

    async def end(self, runner: str) -> None:
        """Note that a runner is no more, whatever it told.

        Raises:
            Unavailable: the database does not answer.
        """
        await self._write(runner, ended=True, report=None)

    async def find(self) -> dict[str, Reported]:
        """What is known, by the runner's name.

        Raises:
            Unavailable: the database does not answer.
        """
        query = select(runner_reports)

        def work(connection: Connection) -> dict[str, Reported]:
            return {
                row.name: Reported(
                    at=row.reported_at,
                    ended=row.ended,
                    report=_read(row.report),
                )
                for row in connection.execute(query)
            }

        return await self._database.read(work)

    async def _write(self, runner: str, *, ended: bool, report: str | None) -> None:
        now = datetime.now(UTC)
        row = {"name": runner, "reported_at": now, "ended": ended, "report": report}

        def work(connection: Connection) -> None:
            if not insert_where_absent(connection, runner_reports, row):
                ours = runner_reports.c.name == runner
                connection.execute(runner_reports.update().where(ours).values(row))
            connection.execute(runner_reports.delete().where(runner_reports.c.reported_at < now - KEPT))

        await self._database.write(work)


def _read(told: str | None) -> RunnerReport | None:
    """None as well for what a later version of this server has kept, and this one cannot read."""
    try:
        return None if told is None else RunnerReport.model_validate_json(told)
    except ValidationError:
        return None
