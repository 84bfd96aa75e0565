"""Whether the server lives, is ready, and what it has counted."""

import asyncio
from http import HTTPStatus

from fastapi import APIRouter, Response
from sqlalchemy import Connection, func, select

from stigmer_contract.api import Readiness, ReadyCheck
from stigmer_server.api.access import NEEDS_USER, OPEN, GuardedRoute
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import Services, ServicesOf
from stigmer_server.errors import Unavailable
from stigmer_server.metrics import CONTENT_TYPE
from stigmer_server.tables import executions

router = APIRouter(tags=["health"], route_class=GuardedRoute)


@router.get(
    "/healthz",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
    openapi_extra=OPEN,
)
async def live() -> Response:
    """The process answers."""
    return Response("ok\n", media_type="text/plain")


@router.get(
    "/readyz",
    responses={503: {"model": Readiness, "description": "Not ready; the checks say why."}},
    openapi_extra=OPEN,
)
async def ready(response: Response, services: ServicesOf) -> Readiness:
    """Whether executions can be taken in and run."""
    readiness = await read_readiness(services)
    response.status_code = HTTPStatus.OK if readiness.ready else HTTPStatus.SERVICE_UNAVAILABLE
    return readiness


async def read_readiness(services: Services) -> Readiness:
    """Whether executions can be taken in and run, and why not."""
    database, temporal = await asyncio.gather(_check_database(services), services.temporal.find_problem())
    checks = [
        ReadyCheck(name="database", ok=database is None, detail=database),
        ReadyCheck(name="temporal", ok=temporal is None, detail=temporal),
    ]
    return Readiness(
        ready=all(check.ok for check in checks),
        version=services.version,
        checks=checks,
        warnings=services.storage.find_warnings(),
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses=problem_responses() | {200: {"content": {"text/plain": {}}}},
    openapi_extra=NEEDS_USER,
)
async def metrics(services: ServicesOf) -> Response:
    """Counts in Prometheus' text format."""

    def count(connection: Connection) -> dict[str, int]:
        query = select(executions.c.phase, func.count()).group_by(executions.c.phase)
        return {row[0]: row[1] for row in connection.execute(query)}

    by_phase = await services.database.read(count)
    storage = services.storage
    text = services.metrics.render(
        by_phase, services.feed.reader_count, storage.free_bytes, storage.stored_bytes
    )
    return Response(text, media_type=CONTENT_TYPE)


async def _check_database(services: Services) -> str | None:
    try:
        # Also finds tables that are not there.
        await services.database.read(
            lambda connection: connection.execute(select(executions.c.phase).limit(1)).all()
        )
    except Unavailable as error:
        return services.storage.find_problem() or str(error)
    return services.storage.find_problem()
