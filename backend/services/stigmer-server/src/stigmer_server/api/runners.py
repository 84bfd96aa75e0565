"""Routes of `/v1/runners`: what whoever started a runner says of it."""

from fastapi import APIRouter

from stigmer_contract.api import LostLegs, RunnerEnded
from stigmer_server.api.access import NEEDS_RUNNER, GuardedRoute
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import ServicesOf

router = APIRouter(prefix="/v1/runners", tags=["runners"], route_class=GuardedRoute)


@router.post("/ended", responses=problem_responses(), openapi_extra=NEEDS_RUNNER)
async def end_runner(body: RunnerEnded, services: ServicesOf) -> LostLegs:
    """Say that a runner process has ended: what it had in hand goes on elsewhere at once.

    The call proves that its sender gave the runner its name. Said again it changes nothing.
    """
    return LostLegs(execution_ids=await services.lost_runners.end(body))
