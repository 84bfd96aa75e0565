"""Routes of `/v1/placements`: what whoever starts runners for workspaces follows, and tells."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from stigmer_contract.api import PlacementList, PlacementReport, PlacementReported
from stigmer_server.api.access import NEEDS_ADMIN, GuardedRoute
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import IDENTIFIER, ServicesOf
from stigmer_server.errors import NotFound
from stigmer_server.placements import MAX_WAIT_SECONDS

router = APIRouter(prefix="/v1/placements", tags=["runners"], route_class=GuardedRoute)


@router.get("", responses=problem_responses(), openapi_extra=NEEDS_ADMIN)
async def list_placements(
    services: ServicesOf,
    known_version: Annotated[
        str | None,
        Query(max_length=64, description="`version` of the list before; another one is waited for."),
    ] = None,
    wait_seconds: Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, description="How long, at most.")] = 0.0,
) -> PlacementList:
    """The placements with work to do, for which runners are to be started.

    Only the administrator may: the list tells directories, and a report ends executions.
    """
    return await services.placements.follow(known_version, wait_seconds)


@router.post("/{placement_id}/reports", responses=problem_responses(NotFound), openapi_extra=NEEDS_ADMIN)
async def report_placement(
    placement_id: Annotated[str, Path(pattern=IDENTIFIER)], body: PlacementReport, services: ServicesOf
) -> PlacementReported:
    """Say how the runner of a placement stands.

    Executions show why they wait for it, and end where it has failed.
    """
    return await services.placements.report(placement_id, body)
