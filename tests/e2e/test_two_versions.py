"""Runners of two versions of the workflow work beside each other, through an upgrade and a downgrade."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from agent_runner.workflows import AgentExecution
from scripted_legs import LAST_MESSAGE, WaitingLegs, working
from server_process import NOWHERE, ServerApi, ServerProcess, wait_until
from stigmer_contract.temporal import (
    DEFAULT_TASK_QUEUE,
    WORKFLOW_TYPE,
    WORKFLOW_VERSION,
    AgentExecutionInput,
)
from temporal_server import TemporalServer

EXECUTIONS = 50
NEXT_VERSION = WORKFLOW_VERSION + 1
SERVER_OF_NEXT_VERSION = f"""
import stigmer_server.installation
from stigmer_server.__main__ import main

stigmer_server.installation.WORKFLOW_VERSION = {NEXT_VERSION}
main()
"""


@workflow.defn(name=WORKFLOW_TYPE)
class NextAgentExecution(AgentExecution):
    """The workflow of a version to come: it asks for a timer that today's code could not replay."""

    @workflow.run
    async def run(self, execution: AgentExecutionInput) -> None:
        if execution.workflow_version >= NEXT_VERSION:
            await workflow.sleep(0.01)
        await super().run(execution)


def _queues(api: ServerApi, version: int) -> list[str]:
    """What runners of a version of the workflow poll."""
    answer: dict[str, Any] = api.http.get("/v1/installation", params={"workflow_version": version}).json()
    return [answer["task_queue"], *answer["older_task_queues"]]


def _send(api: ServerApi, execution_id: str, text: str) -> None:
    answer = api.http.post(f"/v1/executions/{execution_id}/messages", json={"text": text})
    assert answer.is_success, answer.text


async def _start(api: ServerApi, count: int) -> list[str]:
    ids = [(await asyncio.to_thread(api.create_execution))["execution_id"] for _ in range(count)]
    for execution_id in ids:
        await asyncio.to_thread(api.wait_for_phase, execution_id, "waiting")
    return ids


async def _end(api: ServerApi, ids: list[str], *, seconds: float = 30) -> None:
    for execution_id in ids:
        await asyncio.to_thread(_send, api, execution_id, LAST_MESSAGE)

    def have_ended() -> bool:
        return all(api.get_execution(each)["phase"] == "completed" for each in ids)

    await asyncio.to_thread(wait_until, have_ended, "all have ended", seconds=seconds)


@pytest.mark.timeout(600)
async def test_fifty_executions_survive_an_upgrade_and_a_downgrade_of_runners(tmp_path: Path) -> None:
    with TemporalServer() as temporal:
        today = ServerProcess(tmp_path, temporal_address=temporal.address)
        with today, today.client() as api:
            [own] = _queues(api, WORKFLOW_VERSION)
            legs = WaitingLegs(api)
            async with working(temporal.address, own, legs):
                early = await _start(api, EXECUTIONS // 2)
        after = ServerProcess(tmp_path, temporal_address=temporal.address, program=SERVER_OF_NEXT_VERSION)
        with after, after.client() as api:
            legs = WaitingLegs(api)
            assert _queues(api, WORKFLOW_VERSION) == [own]
            newest, *older = _queues(api, NEXT_VERSION)
            assert older == [own]
            async with working(temporal.address, own, legs):
                async with (
                    working(temporal.address, newest, legs, NextAgentExecution),
                    working(temporal.address, own, legs, NextAgentExecution),
                ):
                    late = await _start(api, EXECUTIONS // 2)
                    # Either version may get each task of these: both must go on with what the other left.
                    for execution_id in early * 3:
                        await asyncio.to_thread(_send, api, execution_id, "look")
                    await _end(api, [*early[::2], *late[::2]])
                # Temporal lists a worker that is gone for over a minute.
                await _end(api, [*early[1::2], *late[1::2]], seconds=200)
            standing = [api.get_execution(each)["standing_reason"] for each in (*early, *late)]
    assert standing == [None] * EXECUTIONS


async def test_an_execution_of_0_1_0_goes_on_under_the_names_of_its_installation(tmp_path: Path) -> None:
    """Its workflow is on the task queue that all installations shared; runners of 0.1.0 may still poll it."""
    with TemporalServer() as temporal:
        with ServerProcess(tmp_path, temporal_address=NOWHERE) as before, before.client() as api:
            execution_id = (await asyncio.to_thread(api.create_execution))["execution_id"]
        with closing(sqlite3.connect(tmp_path / "data" / "stigmer.db")) as database:
            database.execute("UPDATE executions SET workflow_id = NULL, task_queue = NULL")
            database.commit()
        client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
        await client.start_workflow(
            WORKFLOW_TYPE,
            AgentExecutionInput(execution_id=execution_id),
            id=execution_id,
            task_queue=DEFAULT_TASK_QUEUE,
        )
        server = ServerProcess(tmp_path, temporal_address=temporal.address)
        with server, server.client() as api:
            own, *older = _queues(api, WORKFLOW_VERSION)
            assert older == [DEFAULT_TASK_QUEUE]
            async with working(temporal.address, own, WaitingLegs(api)):
                await asyncio.to_thread(api.wait_for_phase, execution_id, "waiting")
                assert _queues(api, WORKFLOW_VERSION) == [own]
                await _end(api, [execution_id])
