"""What an execution waits for wakes it, whatever dies between the log and Temporal."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from temporalio.client import Client

from scripted_legs import LAST_MESSAGE, WaitingLegs, messages_of, working
from server_process import ServerApi, ServerProcess, wait_until
from temporal_server import TemporalServer

KILLED_BEFORE_EACH_SIGNAL = """
import os, signal, sys
import stigmer_server.serving
from stigmer_server.__main__ import main
from stigmer_server.reconciler import Reconciler

Reconciler.wake_soon = lambda self, execution_id: os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
while child := os.fork():
    signal.signal(signal.SIGTERM, lambda *_: (os.kill(child, signal.SIGKILL), sys.exit()))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != -signal.SIGKILL:
        sys.exit(status)
main()
"""
"""A server that dies between the append of what wakes an execution and the signal to its workflow, and is
started again each time. It is a fork of one that has all modules, since importing them takes the time."""


@pytest.fixture(scope="module")
def temporal() -> Iterator[TemporalServer]:
    # A wake-up takes some 15 events, so a few of them let Temporal suggest to continue as new.
    with TemporalServer(dynamic_config=["limit.historyCount.suggestContinueAsNew=60"]) as server:
        yield server


def _queue() -> str:
    return f"queue-{uuid4().hex}"


def _server(home: Path, temporal: TemporalServer, queue: str, program: str | None = None) -> ServerProcess:
    return ServerProcess(
        home,
        temporal_address=temporal.address,
        environment={
            "TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE": queue,
            "STIGMER_CALLS_PER_SECOND": "100000",
            "STIGMER_CALLS_AT_ONCE": "100000",
        },
        program=program,
    )


def _send(api: ServerApi, execution_id: str, text: str) -> None:
    answer = api.http.post(
        f"/v1/executions/{execution_id}/messages",
        json={"text": text},
        headers={"Idempotency-Key": f"{execution_id} {text}"},
    )
    assert answer.is_success, answer.text


async def test_a_message_wakes_an_execution_and_nothing_is_done_meanwhile(
    tmp_path: Path, temporal: TemporalServer
) -> None:
    queue = _queue()
    with _server(tmp_path, temporal, queue) as server, server.client() as api:
        async with working(temporal.address, api.task_queue(), WaitingLegs(api)):
            execution_id = (await asyncio.to_thread(api.create_execution))["execution_id"]
            await asyncio.to_thread(api.wait_for_phase, execution_id, "waiting")
            before = api.get_execution(execution_id)

            await asyncio.to_thread(_send, api, execution_id, LAST_MESSAGE)

            after = await asyncio.to_thread(api.wait_for_phase, execution_id, "completed")
    assert (before["attempt"], after["attempt"]) == (1, 2)


async def test_a_time_wakes_an_execution(tmp_path: Path, temporal: TemporalServer) -> None:
    queue = _queue()
    with _server(tmp_path, temporal, queue) as server, server.client() as api:
        async with working(temporal.address, api.task_queue(), WaitingLegs(api, seconds=1)):
            execution_id = (await asyncio.to_thread(api.create_execution))["execution_id"]

            await asyncio.to_thread(api.wait_for_phase, execution_id, "completed")


async def test_a_time_that_comes_while_temporal_and_the_server_are_away_wakes_an_execution(
    tmp_path: Path,
) -> None:
    queue = _queue()
    with TemporalServer(tmp_path / "temporal.db") as temporal:
        server = _server(tmp_path, temporal, queue)
        with server, server.client() as api:
            async with working(temporal.address, api.task_queue(), WaitingLegs(api, seconds=1)):
                execution_id = (await asyncio.to_thread(api.create_execution))["execution_id"]
                await asyncio.to_thread(api.wait_for_phase, execution_id, "waiting")
                server.kill()
                temporal.kill()

                temporal.start()
                server.start()

                await asyncio.to_thread(api.wait_for_phase, execution_id, "completed")


async def test_many_wake_ups_reach_an_execution_whose_workflow_is_continued_as_new(
    tmp_path: Path, temporal: TemporalServer
) -> None:
    queue = _queue()
    with _server(tmp_path, temporal, queue) as server, server.client() as api:
        legs = WaitingLegs(api)
        async with working(temporal.address, api.task_queue(), legs):
            execution_id = (await asyncio.to_thread(api.create_execution))["execution_id"]
            client = await Client.connect(temporal.address)
            for number in range(60):
                await asyncio.to_thread(_send, api, execution_id, str(number))
                if number % 3:  # else the next one comes while a leg is at work
                    await asyncio.to_thread(api.wait_for_phase, execution_id, "waiting")
            await asyncio.to_thread(_send, api, execution_id, LAST_MESSAGE)
            await asyncio.to_thread(api.wait_for_phase, execution_id, "completed")

            runs = [run async for run in client.list_workflows(f"TaskQueue = '{api.task_queue()}'")]
        assert messages_of(api.read_log(execution_id)) == [*map(str, range(60)), LAST_MESSAGE]
    assert len(runs) > 3


KILLS = 100


@pytest.mark.timeout(600)
async def test_a_server_killed_between_append_and_signal_wakes_the_execution_when_it_is_back(
    tmp_path: Path, temporal: TemporalServer
) -> None:
    queue = _queue()
    server = _server(tmp_path, temporal, queue, KILLED_BEFORE_EACH_SIGNAL)
    with server, server.client() as api:
        async with working(temporal.address, api.task_queue(), WaitingLegs(api)):
            execution_id = (await asyncio.to_thread(api.create_execution))["execution_id"]
            await asyncio.to_thread(api.wait_for_phase, execution_id, "waiting")
            for number in range(KILLS):
                attempt = api.get_execution(execution_id)["attempt"]
                with pytest.raises(httpx.TransportError):
                    await asyncio.to_thread(_send, api, execution_id, str(number))
                await asyncio.to_thread(server.wait_until_answers)
                await asyncio.to_thread(_wait_for_next_wait, api, execution_id, attempt)
        log = api.read_log(execution_id)
        server.stop()
    assert messages_of(log) == [str(number) for number in range(KILLS)]


def _wait_for_next_wait(api: ServerApi, execution_id: str, attempt: int) -> None:
    def is_waiting_again() -> bool:
        execution = api.get_execution(execution_id)
        return execution["phase"] == "waiting" and execution["attempt"] > attempt

    wait_until(is_waiting_again, f"{execution_id} has looked at its log")
