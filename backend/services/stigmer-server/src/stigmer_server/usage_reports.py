"""What models were paid for, and how executions stand, added up for whoever asks. Reads only."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, func, select

from stigmer_contract.api import Summary, UsagePeriod, UsageReport, UsageShare
from stigmer_contract.events import Usage
from stigmer_contract.phases import ExecutionPhase
from stigmer_server.database import Database
from stigmer_server.execution_state import NANOS, NOTHING_USED
from stigmer_server.owners import Caller
from stigmer_server.tables import executions, inputs, usage_quarters
from stigmer_server.usage_index import COUNTED, quarter_of

_SUMS: Final = [func.sum(usage_quarters.c[name]).label(name) for name in (*COUNTED, "cost_nanos")]
_LIVING: Final = [phase.value for phase in ExecutionPhase if not phase.is_terminal]
_ENDED: Final = [phase.value for phase in ExecutionPhase if phase.is_terminal]


class UsageReports:
    """Adds up."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, caller: Caller, times: Sequence[datetime]) -> UsageReport:
        """What was used between these times, ascending, at least two; rounded down to quarters of an hour."""
        bounds = [quarter_of(time) for time in times]
        within = (usage_quarters.c.quarter >= bounds[0], usage_quarters.c.quarter < bounds[-1])
        quarter, *names = (usage_quarters.c[name] for name in ("quarter", "agent_name", "model", "owner"))

        def work(connection: Connection) -> tuple[Sequence[Row[Any]], Sequence[Row[Any]]]:
            seen = (caller.may_see_session(usage_quarters.c.session_id), *within)
            by_time = select(quarter, *_SUMS).where(*seen).group_by(quarter)
            by_name = select(*names, *_SUMS).where(*seen).group_by(*names)
            return connection.execute(by_time).all(), connection.execute(by_name).all()

        by_time, by_name = await self._database.read(work)
        totals = [NOTHING_USED] * (len(bounds) - 1)
        for row in by_time:
            place = bisect_right(bounds, row.quarter) - 1
            totals[place] += _usage(row)
        periods = [
            UsagePeriod(begins_at=begins_at, ends_at=ends_at, usage=usage)
            for begins_at, ends_at, usage in zip(times, times[1:], totals, strict=False)
        ]
        return UsageReport(
            total=sum(totals, NOTHING_USED),
            periods=periods,
            agents=_shares(by_name, lambda row: row.agent_name),
            models=_shares(by_name, lambda row: row.model),
            owners=_shares(by_name, lambda row: row.owner),
        )

    async def summarise(self, caller: Caller, since: datetime) -> Summary:
        """How what the caller sees stands."""
        phase = executions.c.phase
        seen = caller.may_see_session(executions.c.session_id)
        used = (
            caller.may_see_session(usage_quarters.c.session_id),
            usage_quarters.c.quarter >= quarter_of(since),
        )
        waiting = (
            select(func.count())
            .select_from(inputs)
            .join(executions, executions.c.execution_id == inputs.c.execution_id)
            .where(inputs.c.resolved_sequence.is_(None), seen)
        )

        def work(connection: Connection) -> Summary:
            def count(*conditions: ColumnElement[bool]) -> dict[str, int]:
                query = select(phase, func.count()).where(seen, *conditions).group_by(phase)
                return {row[0]: row[1] for row in connection.execute(query)}

            counts = dict.fromkeys([*_LIVING, *_ENDED], 0)
            counts |= count(phase.in_(_LIVING)) | count(phase.in_(_ENDED), executions.c.ended_at >= since)
            return Summary(
                **counts,
                open_inputs=connection.execute(waiting).scalar_one(),
                usage=_usage(connection.execute(select(*_SUMS).where(*used)).one()),
            )

        return await self._database.read(work)


def _usage(row: Row[Any]) -> Usage:
    nanos: int | None = row.cost_nanos
    counted = {name: int(getattr(row, name) or 0) for name in COUNTED}
    cost_usd = None if nanos is None else Decimal(int(nanos)) / NANOS
    return Usage.model_validate({**counted, "cost_usd": cost_usd})


def _shares(rows: Iterable[Row[Any]], name_of: Callable[[Row[Any]], str]) -> list[UsageShare]:
    totals = dict[str, Usage]()
    for row in rows:
        totals[name_of(row)] = totals.get(name_of(row), NOTHING_USED) + _usage(row)
    shares = [UsageShare(name=name, usage=usage) for name, usage in totals.items()]
    return sorted(
        shares, key=lambda share: (-(share.usage.cost_usd or 0), -share.usage.total_tokens, share.name)
    )


def midnights(days: int, now: datetime) -> list[datetime]:
    """The beginnings of the last days, today's included, and of tomorrow; days of UTC."""
    tomorrow = (int(now.timestamp()) // 86_400 + 1) * 86_400
    return [datetime.fromtimestamp(tomorrow - 86_400 * day, now.tzinfo) for day in range(days, -1, -1)]
