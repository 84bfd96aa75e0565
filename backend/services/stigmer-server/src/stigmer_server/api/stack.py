"""The route `/v1/stack`: how the installation stands."""

import asyncio

from fastapi import APIRouter

from stigmer_contract.api import StackState
from stigmer_contract.temporal import WORKFLOW_VERSION
from stigmer_server.api.access import NEEDS_USER, GuardedRoute
from stigmer_server.api.health import read_readiness
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import ServicesOf

router = APIRouter(prefix="/v1/stack", tags=["health"], route_class=GuardedRoute)


@router.get("", responses=problem_responses(), openapi_extra=NEEDS_USER)
async def get_stack(services: ServicesOf) -> StackState:
    """Whether it is ready, which runners were heard of, and what stands before them."""
    readiness, installation, (queue, runners) = await asyncio.gather(
        read_readiness(services), services.installation.describe(WORKFLOW_VERSION), services.stack.find()
    )
    return StackState(readiness=readiness, installation=installation, queue=queue, runners=runners)
