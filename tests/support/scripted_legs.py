"""A worker with the real workflow and scripted legs: each waits, until a message says `end`."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from agent_runner.workflows import AgentExecution
from server_process import ServerApi, completed
from stigmer_contract.temporal import RUN_LEG_ACTIVITY, LegInput, LegOutcome, LegResult

LAST_MESSAGE = "end"


class WaitingLegs:
    """Legs of executions that wait for a message, and end with the message `end`."""

    def __init__(self, api: ServerApi, *, seconds: float | None = None) -> None:
        """With `seconds` they wait for that time as well, and end when it has come."""
        self._api = api
        self._seconds = seconds
        self.refused = 0
        """How often a leg was told that something had come meanwhile."""

    @activity.defn(name=RUN_LEG_ACTIVITY)
    async def run_leg(self, leg: LegInput) -> LegResult:
        """Take the execution, look at its log, and wait or end."""
        return await asyncio.to_thread(self._run, leg.execution_id)

    def _run(self, execution_id: str) -> LegResult:
        grant = self._api.start_leg(execution_id)
        events: list[dict[str, Any]] = grant["events"]
        if self._is_over(events):
            self._api.append(execution_id, [completed()], attempt=grant["attempt"])
            return LegResult(outcome=LegOutcome.ENDED)
        now = datetime.fromisoformat(events[-1]["recorded_at"])
        reasons: list[dict[str, str]] = [{"kind": "message"}]
        seconds: float | None = None
        if self._seconds is not None:
            until = _first_wait(events) or now + timedelta(seconds=self._seconds)
            reasons.append({"kind": "time", "until": until.isoformat()})
            seconds = (until - now).total_seconds()
        ended = {
            "type": "leg.ended",
            "attempt": grant["attempt"],
            "reason": "waiting",
            "waiting_for": reasons,
            "seen": events[-1]["sequence"],
        }
        answer = self._api.append(execution_id, [ended], attempt=grant["attempt"])
        if answer.is_success:
            return LegResult(outcome=LegOutcome.WAITING, wait_seconds=seconds)
        assert answer.json()["code"] in ("woken", "attempt_superseded", "execution_ended"), answer.text
        self.refused += answer.json()["code"] == "woken"
        return LegResult(outcome=LegOutcome.DRAINED)

    def _is_over(self, events: list[dict[str, Any]]) -> bool:
        until = _first_wait(events)
        now = datetime.fromisoformat(events[-1]["recorded_at"])
        return (until is not None and now >= until) or LAST_MESSAGE in messages_of(events)


def messages_of(events: list[dict[str, Any]]) -> list[str]:
    """The texts of the messages in a log."""
    found: list[Mapping[str, Any]] = [each["event"] for each in events]
    return [each["message"]["value"] for each in found if each["type"] == "message.received"]


def _first_wait(events: list[dict[str, Any]]) -> datetime | None:
    for each in events:
        for reason in each["event"].get("waiting_for", ()):
            if reason["kind"] == "time":
                return datetime.fromisoformat(reason["until"]).astimezone(UTC)
    return None


@asynccontextmanager
async def working(
    address: str, task_queue: str, legs: WaitingLegs, code: type[AgentExecution] = AgentExecution
) -> AsyncGenerator[None]:
    """A worker on a queue."""
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    async with Worker(
        client,
        task_queue=task_queue,
        workflows=[code],
        activities=[legs.run_leg],
        max_cached_workflows=0,
        workflow_runner=UnsandboxedWorkflowRunner(),
        graceful_shutdown_timeout=timedelta(seconds=1),
    ):
        yield
