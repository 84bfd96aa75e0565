"""Calls to a Temporal that does not answer end in time, and say so."""

import asyncio
import os
import signal
import socket

import pytest

from server_process import WAIT_SECONDS
from stigmer_server import temporal_client
from stigmer_server.settings import load_settings
from stigmer_server.temporal_client import TemporalClient
from temporal_server import TemporalServer


def client_of(address: str) -> TemporalClient:
    """A client that has not connected yet."""
    environment = {"STIGMER_HOME": "/nonexistent", "STIGMER_TOKEN": "t", "TEMPORAL_SERVICE_ADDRESS": address}
    return TemporalClient(load_settings(environment).temporal, 5)


async def wait_until_it_answers(client: TemporalClient) -> None:
    """Ask again and again; each call that fails takes its time."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await client.find_problem() is not None:
            pass


async def wait_for_problem(client: TemporalClient) -> str:
    """Ask again and again: a process that is told to stop answers for some moments more."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            problem = await client.find_problem()
            if problem is not None:
                return problem


async def test_an_address_that_takes_connections_and_is_silent_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(temporal_client, "CONNECT_TIMEOUT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        client = client_of(address)
        async with asyncio.timeout(10):
            problems = [await client.find_problem(), await client.find_queue_problem(["a"])]

    assert problems == [f"Temporal is not reachable at {address}"] * 2


async def test_a_temporal_that_stands_still_is_not_reachable_until_it_goes_on() -> None:
    with TemporalServer() as temporal:
        client = client_of(temporal.address)
        await wait_until_it_answers(client)
        pid = temporal.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            problem = await wait_for_problem(client)
        finally:
            os.kill(pid, signal.SIGCONT)

        assert problem == f"Temporal is not reachable at {temporal.address}"
        await wait_until_it_answers(client)
