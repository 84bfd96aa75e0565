"""Sessions with a workspace work on task queues of their own, where the server is told so."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from server_process import ServerApi, ServerFactory, completed, manifest, wait_until
from stigmer_contract.placements import placement_id_of
from stigmer_contract.temporal import (
    RUN_LEG_ACTIVITY,
    WORKFLOW_TYPE,
    AgentExecutionInput,
    LegInput,
    LegOutcome,
    LegResult,
)
from temporal_server import TemporalServer

EACH = {"STIGMER_RUNNER_PER_WORKSPACE": "true"}


@workflow.defn(name=WORKFLOW_TYPE)
class OneLeg:
    """As the runner's own workflow, with one leg."""

    @workflow.run
    async def run(self, execution: AgentExecutionInput) -> None:
        await workflow.execute_activity(
            RUN_LEG_ACTIVITY,
            LegInput(execution_id=execution.execution_id),
            result_type=LegResult,
            task_queue=execution.leg_task_queue,
            start_to_close_timeout=timedelta(seconds=60),
        )


@asynccontextmanager
async def polling(temporal: TemporalServer, queue: str, *, legs: list[str] | None) -> AsyncGenerator[None]:
    """A worker on a queue: of workflows, or of legs, whose executions are put into the list."""

    @activity.defn(name=RUN_LEG_ACTIVITY)
    async def run_leg(leg: LegInput) -> LegResult:
        assert legs is not None
        legs.append(leg.execution_id)
        return LegResult(outcome=LegOutcome.ENDED)

    client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
    worker = Worker(
        client,
        task_queue=queue,
        workflows=[OneLeg] if legs is None else [],
        activities=[] if legs is None else [run_leg],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with worker:
        yield


def create(api: ServerApi, workspace: str | None, **more: Any) -> dict[str, Any]:
    body = {"manifest": manifest(), "input": "x", "workspace": workspace, **more}
    response = api.http.post("/v1/executions", json=body)
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


def placements(api: ServerApi, **query: Any) -> dict[str, Any]:
    response = api.http.get("/v1/placements", params=query)
    assert response.status_code == 200, response.text
    listed: dict[str, Any] = response.json()
    return listed


def session_of(api: ServerApi, execution: dict[str, Any]) -> dict[str, Any]:
    session: dict[str, Any] = api.http.get(f"/v1/sessions/{execution['session_id']}").json()
    return session


@pytest.fixture
def workspace(tmp_path: Path) -> str:
    """A directory for sessions."""
    directory = tmp_path / "work"
    directory.mkdir()
    return str(directory)


def test_where_nobody_says_so_all_work_is_the_standing_runners(api: ServerApi, workspace: str) -> None:
    execution = create(api, workspace)

    assert session_of(api, execution)["placement"] is None
    assert placements(api)["placements"] == []


def test_sessions_of_one_directory_share_a_placement_which_is_listed_while_there_is_work(
    start_server: ServerFactory, workspace: str
) -> None:
    with start_server(environment=EACH).client() as api:
        one, other, elsewhere = create(api, workspace), create(api, workspace), create(api, None)
        queue = session_of(api, one)["placement"]

        assert queue.endswith(f"/{placement_id_of(workspace)}")
        assert session_of(api, other)["placement"] == queue
        assert session_of(api, elsewhere)["placement"] is None
        placement_id = placement_id_of(workspace)
        listed = {"placement_id": placement_id, "task_queue": queue, "workspace": workspace}
        assert placements(api)["placements"] == [listed | {"executions": 2}]

        api.start_leg(one["execution_id"])
        assert placements(api)["placements"] == [listed | {"executions": 2}]
        api.append(one["execution_id"], [completed()])
        api.http.post(f"/v1/executions/{other['execution_id']}/cancel", json={})
        assert placements(api)["placements"] == []


def test_a_change_is_told_to_whoever_waits_for_it(start_server: ServerFactory, workspace: str) -> None:
    server = start_server(environment=EACH)
    with server.client() as api, server.client() as other:
        known = placements(api)["version"]
        found = list[dict[str, Any]]()
        waiting = threading.Thread(
            target=lambda: found.append(placements(other, known_version=known, wait_seconds=30))
        )
        waiting.start()
        create(api, workspace)
        waiting.join(25)

        assert [listed["workspace"] for listed in found[0]["placements"]] == [workspace]
        same = placements(api, known_version=found[0]["version"], wait_seconds=0.1)
        assert same == found[0]


def test_why_an_execution_waits_for_its_runner_is_told(start_server: ServerFactory, workspace: str) -> None:
    with start_server(environment=EACH).client() as api:
        execution = create(api, workspace)
        path = f"/v1/placements/{placement_id_of(workspace)}/reports"
        report = {"phase": "waiting", "reason": "8 containers stand side by side (runner.maxContainers)"}

        assert api.http.post(path, json=report).json() == {"execution_ids": []}

        # That nobody polls the workflows' queue comes first, where it is so.
        told = (report["reason"], "no runner is connected")
        wait_until(
            lambda: api.get_execution(execution["execution_id"])["pending_reason"] in told,
            "the reason is told",
        )
        refused = api.http.post(path, json={"phase": "waiting"})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
        unknown = api.http.post("/v1/placements/unknown/reports", json={"phase": "ready"})
        assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


def test_a_placement_that_cannot_be_made_ends_its_executions_and_no_others(
    start_server: ServerFactory, workspace: str, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    with start_server(environment=EACH).client() as api:
        execution, other = create(api, workspace), create(api, str(tmp_path / "other"))
        report = {"phase": "failed", "reason": "there is no such directory", "hint": "make it"}

        answer = api.http.post(f"/v1/placements/{placement_id_of(workspace)}/reports", json=report)

        assert answer.json() == {"execution_ids": [execution["execution_id"]]}
        failed = api.wait_for_phase(execution["execution_id"], "failed")
        assert failed["error"] == {
            "code": "workspace_unavailable",
            "message": "there is no such directory",
            "hint": "make it",
        }
        left = [listed["workspace"] for listed in placements(api)["placements"]]
        assert left == [str(tmp_path / "other")]
        assert api.http.get(f"/v1/executions/{other['execution_id']}").json()["phase"] == "pending"


async def test_workflows_stay_on_the_standing_queue_and_legs_go_to_the_placement(
    start_server: ServerFactory, temporal: TemporalServer, workspace: str
) -> None:
    with start_server(environment=EACH).client() as api:
        standing = api.http.get("/v1/installation").json()["task_queue"]
        execution = create(api, workspace)
        legs = list[str]()
        queue = session_of(api, execution)["placement"]
        async with polling(temporal, standing, legs=None), polling(temporal, queue, legs=legs):
            await _until(lambda: legs == [execution["execution_id"]])


async def test_executions_go_on_where_the_server_is_told_otherwise_at_its_next_start(
    start_server: ServerFactory, temporal: TemporalServer, workspace: str
) -> None:
    server = start_server(environment=EACH)
    with server.client() as api:
        standing = api.http.get("/v1/installation").json()["task_queue"]
        execution = create(api, workspace)
    server.stop()
    with start_server().client() as api:
        legs = list[str]()
        async with polling(temporal, standing, legs=None), polling(temporal, standing, legs=legs):
            await _until(lambda: legs == [execution["execution_id"]])
        assert placements(api)["placements"] == []
        api.start_leg(execution["execution_id"])
        api.append(execution["execution_id"], [completed()])
        again = create(api, None, session_id=execution["session_id"])
        assert session_of(api, again)["placement"] is None


async def _until(is_so: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, is_so, "legs run where they should")
