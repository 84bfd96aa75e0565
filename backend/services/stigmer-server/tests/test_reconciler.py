"""Workflows and logs are kept in step: what nobody would end ends, what nobody started starts."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from server_process import ServerApi, ServerFactory, ServerProcess, completed, manifest, responded, wait_until
from stigmer_contract.events import LOG_FORMAT
from stigmer_contract.temporal import (
    RUN_LEG_ACTIVITY,
    WORKFLOW_TYPE,
    AgentExecutionInput,
    LegInput,
    LegOutcome,
    LegResult,
)
from temporal_server import TemporalServer, free_port


async def connect(temporal: TemporalServer) -> Client:
    return await Client.connect(temporal.address, data_converter=pydantic_data_converter)


async def runs_of(client: Client, execution_id: str) -> list[WorkflowExecution]:
    """All that Temporal knows of an execution, the newest first."""
    query = f'WorkflowId STARTS_WITH "{execution_id}"'
    return [run async for run in client.list_workflows(query)]


async def status_of(temporal: TemporalServer, execution_id: str) -> WorkflowExecutionStatus | None:
    """How the workflow stands; None where there is none."""
    client = await connect(temporal)
    runs = await runs_of(client, execution_id)
    return (await client.get_workflow_handle(runs[0].id).describe()).status if runs else None


async def terminate(temporal: TemporalServer, execution_id: str) -> None:
    client = await connect(temporal)
    [run] = await runs_of(client, execution_id)
    await client.get_workflow_handle(run.id).terminate()


def wait_for_status(temporal: TemporalServer, execution_id: str, status: WorkflowExecutionStatus) -> None:
    wait_until(
        lambda: asyncio.run(status_of(temporal, execution_id)) is status, f"the workflow is {status.name}"
    )


def test_creating_an_execution_starts_its_workflow(api: ServerApi, temporal: TemporalServer) -> None:
    execution_id = api.create_execution()["execution_id"]

    wait_for_status(temporal, execution_id, WorkflowExecutionStatus.RUNNING)


@pytest.mark.parametrize("is_running", [False, True])
def test_an_execution_whose_workflow_was_terminated_fails(
    api: ServerApi, temporal: TemporalServer, is_running: bool
) -> None:
    execution_id = api.create_execution()["execution_id"]
    wait_for_status(temporal, execution_id, WorkflowExecutionStatus.RUNNING)
    if is_running:
        api.start_leg(execution_id)

    asyncio.run(terminate(temporal, execution_id))

    execution = api.wait_for_phase(execution_id, "failed")
    assert execution["error"] == {
        "code": "workflow_lost",
        "message": (
            f"could not go on with execution {execution_id!r}: somebody terminated its Temporal workflow"
        ),
        "hint": "start a new execution in the same session",
    }
    assert api.read_log(execution_id)[-1]["attempt"] is None


def test_an_execution_to_be_cancelled_whose_workflow_was_terminated_is_cancelled(
    api: ServerApi, temporal: TemporalServer
) -> None:
    execution_id = api.create_execution()["execution_id"]
    wait_for_status(temporal, execution_id, WorkflowExecutionStatus.RUNNING)
    api.start_leg(execution_id)

    api.http.post(f"/v1/executions/{execution_id}/cancel", json={"reason": "enough"})
    asyncio.run(terminate(temporal, execution_id))

    api.wait_for_phase(execution_id, "cancelled")
    assert api.read_log(execution_id)[-1]["event"] == {"type": "execution.cancelled", "reason": "enough"}


def test_a_cancelled_execution_that_no_runner_has_in_hand_ends(
    api: ServerApi, temporal: TemporalServer
) -> None:
    execution_id = api.create_execution()["execution_id"]
    wait_for_status(temporal, execution_id, WorkflowExecutionStatus.RUNNING)
    api.start_leg(execution_id)  # by a runner that was never heard of again

    api.http.post(f"/v1/executions/{execution_id}/cancel")

    api.wait_for_phase(execution_id, "cancelled")
    wait_for_status(temporal, execution_id, WorkflowExecutionStatus.TERMINATED)


def test_cancelling_before_a_runner_came_leaves_no_open_workflow(
    api: ServerApi, temporal: TemporalServer
) -> None:
    execution_id = api.create_execution()["execution_id"]
    wait_for_status(temporal, execution_id, WorkflowExecutionStatus.RUNNING)

    api.http.post(f"/v1/executions/{execution_id}/cancel")

    wait_for_status(temporal, execution_id, WorkflowExecutionStatus.TERMINATED)


def test_an_execution_made_while_temporal_was_away_starts_when_it_is_back(
    start_server: ServerFactory,
) -> None:
    late = TemporalServer(port=free_port())
    server = start_server(temporal_address=late.address)
    with server.client() as api:
        execution = api.create_execution()
        execution_id = execution["execution_id"]
        assert execution["phase"] == "pending"
        reason = api.get_execution(execution_id)["pending_reason"]
        assert reason == f"Temporal is not reachable at {late.address}"

        with late:
            wait_for_status(late, execution_id, WorkflowExecutionStatus.RUNNING)
            wait_until(
                lambda: api.get_execution(execution_id)["pending_reason"] == "no runner is connected",
                "the reason is that no runner is connected",
            )


def test_when_temporal_forgets_everything_all_executions_go_on_from_the_log(
    start_server: ServerFactory,
) -> None:
    with TemporalServer() as forgetful:
        server = start_server(temporal_address=forgetful.address)
        with server.client() as api:
            begun, waiting = (api.create_execution()["execution_id"] for _ in range(2))
            for execution_id in (begun, waiting):
                wait_for_status(forgetful, execution_id, WorkflowExecutionStatus.RUNNING)
            api.start_leg(begun)

            forgetful.kill()
            forgetful.start()

            for execution_id, phase in ((begun, "in_progress"), (waiting, "pending")):
                wait_for_status(forgetful, execution_id, WorkflowExecutionStatus.RUNNING)
                assert api.get_execution(execution_id)["phase"] == phase


@workflow.defn(name=WORKFLOW_TYPE)
class EndsAtOnce:
    """Ends as a workflow does whose Temporal knows less than the log."""

    @workflow.run
    async def run(self, execution: AgentExecutionInput) -> None:
        if "fails" in workflow.info().task_queue:
            raise ApplicationError("as if something had gone wrong")


@pytest.mark.parametrize("end", ["completes", "fails"])
async def test_a_workflow_that_ended_while_the_log_is_open_is_started_anew(
    start_server: ServerFactory, temporal: TemporalServer, end: str
) -> None:
    base = f"{end}-{uuid4().hex}"
    server = start_server(environment={"TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE": base})
    client = await connect(temporal)
    with server.client() as api:
        execution_id = (await asyncio.to_thread(api.create_execution))["execution_id"]
        async with Worker(
            client,
            task_queue=api.task_queue(),
            workflows=[EndsAtOnce],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):
            await asyncio.to_thread(
                wait_until, lambda: count_runs(temporal, execution_id) >= 3, "it was started anew twice"
            )

        runs = await runs_of(client, execution_id)
        assert len({run.id for run in runs}) == 1
        assert sum(run.status is WorkflowExecutionStatus.RUNNING for run in runs) <= 1
        assert api.get_execution(execution_id)["phase"] == "pending"


def test_an_execution_keeps_the_names_that_it_was_started_with(
    start_server: ServerFactory, temporal: TemporalServer
) -> None:
    server = start_server()
    with server.client() as api:
        execution_id = api.create_execution()["execution_id"]
        wait_for_status(temporal, execution_id, WorkflowExecutionStatus.RUNNING)
        with closing(sqlite3.connect(server.home / "data" / "stigmer.db", timeout=10)) as database:
            # As an execution of 0.1.0 is.
            database.execute("UPDATE executions SET workflow_id = NULL, task_queue = NULL")
            database.commit()

        wait_until(
            lambda: open_ids(temporal, execution_id) >= {execution_id}, "it is started by its old name"
        )

        installation = api.http.get("/v1/installation").json()
        assert installation["older_task_queues"] == ["agent_execution_runner"]
        assert installation["task_queue"] == f"agent_execution_runner-{installation['installation_id']}"


def count_runs(temporal: TemporalServer, execution_id: str) -> int:
    """How often workflows of an execution were started."""

    async def find() -> int:
        return len(await runs_of(await connect(temporal), execution_id))

    return asyncio.run(find())


def open_ids(temporal: TemporalServer, execution_id: str) -> set[str]:
    """Under which ids workflows of an execution are open."""

    async def find() -> set[str]:
        runs = await runs_of(await connect(temporal), execution_id)
        return {run.id for run in runs if run.status is WorkflowExecutionStatus.RUNNING}

    return asyncio.run(find())


def test_two_installations_on_one_temporal_have_names_of_their_own(
    temporal: TemporalServer, tmp_path: Path
) -> None:
    names = list[tuple[str, str]]()
    for place in ("one", "other"):
        with (
            ServerProcess(tmp_path / place, temporal_address=temporal.address) as server,
            server.client() as api,
        ):
            names.append((api.task_queue(), api.http.get("/v1/installation").json()["installation_id"]))
    assert len({queue for queue, _ in names}) == len({identity for _, identity in names}) == 2


def test_a_leg_of_an_execution_that_is_not_known_is_refused_and_counted(api: ServerApi) -> None:
    before = api.http.get("/v1/installation").json()["unknown_legs"]
    request = {"runner": "1@a", "runner_version": "0", "log_format": LOG_FORMAT}

    answer = api.http.post("/v1/executions/exe_of_another/legs", json=request)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert api.http.get("/v1/installation").json()["unknown_legs"] == before + 1


def test_a_server_that_starts_takes_up_what_another_left(temporal: TemporalServer, tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as first, first.client() as api:
        execution_id = api.create_execution()["execution_id"]
    with ServerProcess(tmp_path, temporal_address=temporal.address):
        wait_for_status(temporal, execution_id, WorkflowExecutionStatus.RUNNING)


def test_an_execution_far_over_its_duration_is_ended(
    start_server: ServerFactory, temporal: TemporalServer
) -> None:
    server = start_server()
    with server.client() as api:
        execution_id = api.create_execution(manifest=manifest(limits={"duration": "1h"}))["execution_id"]
        wait_for_status(temporal, execution_id, WorkflowExecutionStatus.RUNNING)
        api.start_leg(execution_id)
        with closing(sqlite3.connect(server.home / "data" / "stigmer.db", timeout=10)) as database:
            database.execute("UPDATE executions SET deadline_at = '2020-01-01 00:00:00.000000'")
            database.commit()

        assert api.wait_for_phase(execution_id, "failed")["error"]["code"] == "limit_duration"
        wait_for_status(temporal, execution_id, WorkflowExecutionStatus.TERMINATED)


# --- with somebody who polls the queue --------------------------------------------------------


@workflow.defn(name=WORKFLOW_TYPE)
class OneLeg:
    """The smallest workflow that runs a leg and passes its cancellation on."""

    @workflow.run
    async def run(self, execution: AgentExecutionInput) -> None:
        await workflow.execute_activity(
            RUN_LEG_ACTIVITY,
            LegInput(execution_id=execution.execution_id),
            result_type=LegResult,
            start_to_close_timeout=timedelta(minutes=1),
            heartbeat_timeout=timedelta(seconds=execution.heartbeat_timeout_seconds),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )


class Runner:
    """Takes every execution and works until it is cancelled, which it writes down."""

    def __init__(self, api: ServerApi) -> None:
        self._api = api

    @activity.defn(name=RUN_LEG_ACTIVITY)
    async def run_leg(self, leg: LegInput) -> LegResult:
        grant = await asyncio.to_thread(self._api.start_leg, leg.execution_id)
        attempt: int = grant["attempt"]
        try:
            while True:
                activity.heartbeat()
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            ending = {"type": "execution.cancelled", "reason": "said the runner"}
            self._api.append(leg.execution_id, [ending], attempt=attempt)
            return LegResult(outcome=LegOutcome.ENDED)


@asynccontextmanager
async def runner_on(temporal: TemporalServer, task_queue: str, api: ServerApi) -> AsyncGenerator[None]:
    worker = Worker(
        await connect(temporal),
        task_queue=task_queue,
        workflows=[OneLeg],
        activities=[Runner(api).run_leg],
        workflow_runner=UnsandboxedWorkflowRunner(),
        graceful_shutdown_timeout=timedelta(seconds=1),
        default_heartbeat_throttle_interval=timedelta(milliseconds=100),
        max_heartbeat_throttle_interval=timedelta(milliseconds=100),
    )
    async with worker:
        yield


async def test_a_cancellation_reaches_the_runner_which_has_the_last_word(
    start_server: ServerFactory, temporal: TemporalServer
) -> None:
    server = start_server()
    with server.client() as api:
        async with runner_on(temporal, api.task_queue(), api):
            execution_id = (await asyncio.to_thread(api.create_execution))["execution_id"]
            await asyncio.to_thread(api.wait_for_phase, execution_id, "in_progress")
            await asyncio.to_thread(
                api.http.post, f"/v1/executions/{execution_id}/cancel", json={"reason": "stop"}
            )
            await asyncio.to_thread(api.wait_for_phase, execution_id, "cancelled")

        last = api.read_log(execution_id)[-1]
        assert (last["attempt"], last["event"]["reason"]) == (1, "said the runner")


@workflow.defn(sandboxed=False)
class SomethingElse:
    """So that a worker can poll without taking executions."""

    @workflow.run
    async def run(self) -> None:
        """Does nothing."""


async def test_with_a_runner_on_the_queue_nothing_is_said_to_be_missing(
    start_server: ServerFactory, temporal: TemporalServer
) -> None:
    server = start_server()

    with server.client() as api:
        execution_id = (await asyncio.to_thread(api.create_execution))["execution_id"]
        await asyncio.to_thread(
            wait_until,
            lambda: api.get_execution(execution_id)["pending_reason"] == "no runner is connected",
            "it is said that no runner is there",
        )
        async with Worker(await connect(temporal), task_queue=api.task_queue(), workflows=[SomethingElse]):
            await asyncio.to_thread(
                wait_until,
                lambda: api.get_execution(execution_id)["pending_reason"] is None,
                "nothing is said to be missing",
            )
            assert api.get_execution(execution_id)["phase"] == "pending"


async def test_an_execution_behind_busy_runners_says_so(
    start_server: ServerFactory, temporal: TemporalServer
) -> None:
    server = start_server()

    def go() -> None:
        with server.client() as api:
            others = [api.create_execution()["execution_id"] for _ in range(2)]
            for execution_id in others:
                api.start_leg(execution_id)
            execution_id = api.create_execution()["execution_id"]
            busy = "every slot of the runners is taken: they have 2 others in hand"

            def listed() -> list[str | None]:
                items = api.http.get("/v1/executions", params={"phase": "pending"}).json()["items"]
                return [each["pending_reason"] for each in items]

            wait_until(
                lambda: api.get_execution(execution_id)["pending_reason"] == busy, "the execution says why"
            )
            wait_until(lambda: listed() == [busy], "the list says why")

    with server.client() as api:
        queue = api.task_queue()
    async with Worker(await connect(temporal), task_queue=queue, workflows=[SomethingElse]):
        await asyncio.to_thread(go)


def test_what_has_ended_is_left_alone(api: ServerApi, temporal: TemporalServer) -> None:
    execution_id = api.create_execution()["execution_id"]
    wait_for_status(temporal, execution_id, WorkflowExecutionStatus.RUNNING)
    api.start_leg(execution_id)
    api.append(execution_id, [responded(), completed()])
    asyncio.run(terminate(temporal, execution_id))
    later = api.create_execution()["execution_id"]
    api.start_leg(later)
    wait_for_status(temporal, later, WorkflowExecutionStatus.RUNNING)
    asyncio.run(terminate(temporal, later))

    # The later one is seen to be lost only by a round that saw the first one too.
    api.wait_for_phase(later, "failed")

    assert api.get_execution(execution_id)["phase"] == "completed"
    assert len(api.read_log(execution_id)) == 4


@workflow.defn(name=WORKFLOW_TYPE)
class Broken:
    """Workflow code that does not fit: what it raises fails its task, which Temporal tries again."""

    @workflow.run
    async def run(self, execution: AgentExecutionInput) -> None:
        raise RuntimeError("[TMPRL1100] Nondeterminism error: no command for event 5")


async def test_an_execution_whose_workflow_cannot_get_on_says_why(
    start_server: ServerFactory, temporal: TemporalServer
) -> None:
    told = re.compile(
        r"its workflow's task failed \d+ times: \[TMPRL1100\] Nondeterminism error: no command for event 5"
    )
    server = start_server()
    with server.client() as api:
        execution_id = (await asyncio.to_thread(api.create_execution))["execution_id"]
        worker = Worker(
            await connect(temporal),
            task_queue=api.task_queue(),
            workflows=[Broken],
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
        async with worker:
            await asyncio.to_thread(
                wait_until,
                lambda: told.fullmatch(api.get_execution(execution_id)["standing_reason"] or "") is not None,
                "the execution says why it stands still",
            )
