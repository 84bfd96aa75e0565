"""The route `/v1/installation`: which names of this installation Temporal knows."""

from fastapi import APIRouter

from stigmer_contract.api import InstallationResource
from stigmer_server.api.access import NEEDS_USER_OR_RUNNER, GuardedRoute
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import ServicesOf

router = APIRouter(prefix="/v1/installation", tags=["runners"], route_class=GuardedRoute)


@router.get("", responses=problem_responses(), openapi_extra=NEEDS_USER_OR_RUNNER)
async def get_installation(services: ServicesOf) -> InstallationResource:
    """Which task queues runners of this installation poll."""
    return await services.installation.describe()
