"""Routes of `/v1/summary` and `/v1/usage`: how it stands, and what it cost."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Annotated, Final

from fastapi import APIRouter, Query

from stigmer_contract.api import Summary, UsageReport
from stigmer_server.api.access import NEEDS_USER, CallerOf, GuardedRoute
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import ServicesOf, Time
from stigmer_server.errors import InvalidRequest
from stigmer_server.usage_reports import midnights

router = APIRouter(tags=["usage"], route_class=GuardedRoute)

MOST_TIMES: Final = 101
USUAL_DAYS: Final = 30
LATELY: Final = timedelta(hours=24)


@router.get("/v1/summary", responses=problem_responses(), openapi_extra=NEEDS_USER)
async def get_summary(
    caller: CallerOf,
    services: ServicesOf,
    since: Annotated[
        Time | None, Query(description="From when on what has ended is counted; left out: 24 hours ago.")
    ] = None,
) -> Summary:
    """How what the caller sees stands: what is at work, what waits, what has ended and what it cost."""
    return await services.usage.summarise(caller, since or datetime.now(UTC) - LATELY)


@router.get("/v1/usage", responses=problem_responses(), openapi_extra=NEEDS_USER)
async def get_usage(
    caller: CallerOf,
    services: ServicesOf,
    at: Annotated[
        list[Time] | None,
        Query(
            min_length=2,
            max_length=MOST_TIMES,
            description=(
                "Times, ascending, between which the periods lie, such as the midnights of one's own days; "
                "rounded down to quarters of an hour. Left out: the last 30 days of UTC."
            ),
        ),
    ] = None,
) -> UsageReport:
    """What models were paid for: by period, agent, model and owner."""
    times = midnights(USUAL_DAYS, datetime.now(UTC)) if at is None else at
    if any(earlier >= later for earlier, later in pairwise(times)):
        raise InvalidRequest("the times of `at` do not ascend")
    return await services.usage.report(caller, times)
