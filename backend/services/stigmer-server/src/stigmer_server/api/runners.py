"""Routes of `/v1/runners`: what a runner, and whoever started it, says of it."""

from fastapi import APIRouter

from stigmer_contract.api import LostLegs, RunnerEnded, RunnerReport
from stigmer_server.api.access import NEEDS_RUNNER, GuardedRoute
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import ServicesOf

router = APIRouter(prefix="/v1/runners", tags=["runners"], route_class=GuardedRoute)


@router.post("/ended", responses=problem_responses(), openapi_extra=NEEDS_RUNNER)
async def end_runner(body: RunnerEnded, services: ServicesOf) -> LostLegs:
    """Say that a runner process has ended: what it had in hand goes on elsewhere at once.

    The call proves that its sender gave the runner its name. Said again it changes nothing.
    """
    lost = LostLegs(execution_ids=await services.lost_runners.end(body))
    await services.runner_reports.end(body.runner)
    return lost


@router.post("/reports", status_code=204, responses=problem_responses(), openapi_extra=NEEDS_RUNNER)
async def report_runner(body: RunnerReport, services: ServicesOf) -> None:
    """Tell how a runner stands, for people who look at the stack; nothing is decided by it."""
    await services.runner_reports.take(body)
