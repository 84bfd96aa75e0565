"""The activity `run_leg`: what a cancellation means to a leg, and what Temporal hears of its errors."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from agent_runner.activities import LegActivities
from agent_runner.errors import ServerRefused
from agent_runner.leg_parts import StopReason
from agent_runner.legs import ActivityAttempt
from stigmer_contract.temporal import LegInput, LegOutcome, LegResult

LEG = LegInput(execution_id="exe_1")


class Legs:
    """Legs of a process, of which each waits until it is stopped."""

    def __init__(self, run: Callable[[], LegResult] | None = None) -> None:
        self.begun = asyncio.Event()
        self.stops: list[StopReason] = []
        self.let_gone: list[str] = []
        self.is_draining = False
        self._run = run
        self._stopped = asyncio.Event()

    async def run(self, execution_id: str, activity: ActivityAttempt) -> LegResult:
        assert activity.task_token
        self.begun.set()
        if self._run is not None:
            return self._run()
        await self._stopped.wait()
        return LegResult(outcome=LegOutcome.ENDED)

    def stop(self, execution_id: str, reason: StopReason) -> None:
        self.stops.append(reason)
        self._stopped.set()

    def let_go(self, execution_id: str, activity: ActivityAttempt) -> None:
        self.let_gone.append(execution_id)


def activities(legs: Any) -> LegActivities:
    client: Any = None  # asked only where a leg came late
    return LegActivities(legs, client)


async def test_a_leg_runs_to_its_end() -> None:
    legs = Legs(lambda: LegResult(outcome=LegOutcome.DRAINED))
    result = await ActivityEnvironment().run(activities(legs).run_leg, LEG)
    assert result == LegResult(outcome=LegOutcome.DRAINED)


async def test_a_cancelled_leg_is_stopped_and_its_end_is_waited_for() -> None:
    legs = Legs()
    environment = ActivityEnvironment()
    work = asyncio.create_task(environment.run(activities(legs).run_leg, LEG))
    await asyncio.wait_for(legs.begun.wait(), 5)
    environment.cancel()
    assert await asyncio.wait_for(work, 5) == LegResult(outcome=LegOutcome.ENDED)
    assert legs.stops == [StopReason.CANCEL]


@pytest.mark.parametrize(
    "details",
    [
        ActivityCancellationDetails(not_found=True),
        ActivityCancellationDetails(timed_out=True),
        ActivityCancellationDetails(worker_shutdown=True),
    ],
    ids=["not found", "timed out", "another worker of the process"],
)
async def test_a_lost_activity_frees_its_slot_and_leaves_the_leg_alone(
    details: ActivityCancellationDetails,
) -> None:
    legs = Legs()
    environment = ActivityEnvironment()
    work = asyncio.create_task(environment.run(activities(legs).run_leg, LEG))
    await asyncio.wait_for(legs.begun.wait(), 5)
    environment.cancel(details)
    await asyncio.wait({work})
    assert work.cancelled()
    assert (legs.stops, legs.let_gone) == ([], ["exe_1"])


async def test_the_legs_of_a_process_that_ends_hand_back() -> None:
    legs = Legs()
    legs.is_draining = True
    environment = ActivityEnvironment()
    work = asyncio.create_task(environment.run(activities(legs).run_leg, LEG))
    await asyncio.wait_for(legs.begun.wait(), 5)
    environment.cancel(ActivityCancellationDetails(worker_shutdown=True))
    await asyncio.wait_for(work, 5)
    assert (legs.stops, legs.let_gone) == ([StopReason.HAND_BACK], [])


def refuse() -> LegResult:
    raise ServerRefused(403, None, "a secret of somebody's")


def break_down() -> LegResult:
    raise ZeroDivisionError("a secret of somebody's")


@pytest.mark.parametrize("run", [refuse, break_down])
async def test_temporal_hears_the_type_of_an_error_and_nothing_it_says(run: Callable[[], LegResult]) -> None:
    with pytest.raises(ApplicationError) as failed:
        await ActivityEnvironment().run(activities(Legs(run)).run_leg, LEG)
    assert failed.value.type in ("ServerRefused", "ZeroDivisionError")
    assert "secret" not in str(failed.value)
    assert failed.value.__cause__ is None
