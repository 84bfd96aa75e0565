"""Records what the workflow of this checkout leaves in Temporal: `record_workflow_histories.py FOLDER`.

Each scenario is a real workflow on a real Temporal whose legs are scripted. The histories of a release are
recorded from its code and kept for ever; `test_workflow_histories` replays them against today's code.
"""

import argparse
import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from pydantic import JsonValue
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from agent_runner.workflows import AgentExecution
from stigmer_contract.temporal import (
    LOOK_SIGNAL,
    RUN_LEG_ACTIVITY,
    WORKFLOW_TYPE,
    WORKFLOW_VERSION,
    AgentExecutionInput,
    LegInput,
    LegOutcome,
    LegResult,
)
from temporal_server import TemporalServer

HEARTBEAT_TIMEOUT_SECONDS: Final = 1.0
TIMEOUT_SECONDS: Final = 60.0

Handle = WorkflowHandle[object, object]
Leg = Callable[["Legs"], Awaitable[LegResult]]


class Legs:
    """The scripted activity: the next leg of the list, each time it is asked for one."""

    def __init__(self, script: Sequence[Leg]) -> None:
        self._script = deque(script)
        self.running = asyncio.Event()
        """A leg that stays until something happens has begun."""

    @activity.defn(name=RUN_LEG_ACTIVITY)
    async def run_leg(self, leg: LegInput) -> LegResult:
        """The next leg, whatever execution it is asked for."""
        return await self._script.popleft()(self)


def result(outcome: LegOutcome) -> Leg:
    """A leg that ends so at once."""

    async def run(_: Legs) -> LegResult:
        return LegResult(outcome=outcome)

    return run


async def failing(_: Legs) -> LegResult:
    """A leg that could not be run."""
    raise ApplicationError("the leg failed; see the runner's log", type="ServerRefused")


async def dying(_: Legs) -> LegResult:
    """A leg whose runner is never heard of again: it sends no heartbeat."""
    await asyncio.sleep(TIMEOUT_SECONDS)
    raise AssertionError("Temporal did not take the leg away")


async def staying(legs: Legs) -> LegResult:
    """A leg that goes on until it is cancelled, and writes that down."""
    legs.running.set()
    try:
        while True:
            activity.heartbeat()
            await asyncio.sleep(HEARTBEAT_TIMEOUT_SECONDS / 10)
    except asyncio.CancelledError:
        return LegResult(outcome=LegOutcome.ENDED)


@dataclass(frozen=True)
class Scenario:
    """Legs, and what happens to the workflow beside them."""

    legs: Sequence[Leg]
    meddle: Callable[[Handle, Legs], Awaitable[None]] | None = None
    stays_open: bool = False
    """The history is taken while a leg is at work."""
    is_cancelled: bool = False
    """The workflow ends as cancelled: no leg has the last word."""


def waiting(seconds: float | None) -> Leg:
    """A leg that ends waiting for a time, or for a signal alone."""

    async def run(legs: Legs) -> LegResult:
        legs.running.set()
        return LegResult(outcome=LegOutcome.WAITING, wait_seconds=seconds)

    return run


async def _signal(handle: Handle, legs: Legs) -> None:
    await legs.running.wait()
    await handle.signal(LOOK_SIGNAL)


async def _cancel_in_the_middle(handle: Handle, legs: Legs) -> None:
    await legs.running.wait()
    await handle.cancel()


_ENDED: Final = result(LegOutcome.ENDED)

SCENARIOS: Final = {
    "one_leg": Scenario([_ENDED]),
    "drained": Scenario([result(LegOutcome.DRAINED), _ENDED]),
    "superseded": Scenario([result(LegOutcome.SUPERSEDED), result(LegOutcome.DRAINED), _ENDED]),
    "leg_failed_and_was_retried": Scenario([failing, failing, _ENDED]),
    "runner_died": Scenario([dying, _ENDED]),
    "cancelled": Scenario([staying], _cancel_in_the_middle),
    "waited_for_a_signal": Scenario([waiting(None), _ENDED], _signal),
    "waited_for_a_time": Scenario([waiting(0.2), _ENDED]),
    "cancelled_while_it_waited": Scenario([waiting(None)], _cancel_in_the_middle, is_cancelled=True),
    "at_work": Scenario([result(LegOutcome.DRAINED), staying], stays_open=True),
}


async def record(client: Client, name: str) -> str:
    """Play a scenario; its history as JSON."""
    scenario = SCENARIOS[name]
    legs = Legs(scenario.legs)
    worker = Worker(
        client,
        task_queue=f"queue-{uuid4().hex}",
        workflows=[AgentExecution],
        activities=[legs.run_leg],
        max_cached_workflows=0,
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with asyncio.timeout(TIMEOUT_SECONDS), worker:
        handle: Handle = await client.start_workflow(
            WORKFLOW_TYPE,
            AgentExecutionInput(
                execution_id="exe_recorded",
                heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT_SECONDS,
                workflow_version=WORKFLOW_VERSION,
            ),
            id=f"recorded-{name}-{uuid4().hex}",
            task_queue=worker.task_queue,
        )
        if scenario.meddle is not None:
            await scenario.meddle(handle, legs)
        if scenario.stays_open:
            await legs.running.wait()
            history = await handle.fetch_history()
            await handle.cancel()
            await handle.result()
        else:
            with pytest.raises(WorkflowFailureError) if scenario.is_cancelled else nullcontext():
                await handle.result()
            history = await handle.fetch_history()
    return json.dumps(_without_stacks(json.loads(history.to_json())), indent=2)


def _without_stacks(value: JsonValue) -> JsonValue:
    """Without the paths of the machine that it was recorded on."""
    if isinstance(value, dict):
        return {key: _without_stacks(item) for key, item in value.items() if key != "stackTrace"}
    return [_without_stacks(item) for item in value] if isinstance(value, list) else value


async def record_all() -> dict[str, str]:
    """The history of every scenario, by name."""
    with TemporalServer() as temporal:
        client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
        return {name: await record(client, name) for name in SCENARIOS}


def main() -> None:
    """Record every scenario into a folder."""
    parser = argparse.ArgumentParser(description="Record the workflow's histories.")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, history in asyncio.run(record_all()).items():
        (folder / f"{name}.json").write_text(history + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
