"""The route `/v1/installation`: which names of this installation Temporal knows."""

from typing import Annotated

from fastapi import APIRouter, Query

from stigmer_contract.api import InstallationResource
from stigmer_contract.temporal import WORKFLOW_VERSION
from stigmer_server.api.access import NEEDS_USER_OR_RUNNER, GuardedRoute
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import ServicesOf

router = APIRouter(prefix="/v1/installation", tags=["runners"], route_class=GuardedRoute)


@router.get("", responses=problem_responses(), openapi_extra=NEEDS_USER_OR_RUNNER)
async def get_installation(
    services: ServicesOf,
    workflow_version: Annotated[
        int, Query(ge=1, le=1_000_000, description="Of the workflow's code that the caller has.")
    ] = WORKFLOW_VERSION,
) -> InstallationResource:
    """Which task queues runners of this installation poll: of their workflow's version, and of older ones."""
    return await services.installation.describe(workflow_version)
