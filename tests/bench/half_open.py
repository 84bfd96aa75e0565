"""How long a connection that swallows everything holds calls up: to Temporal, and to the server."""

import asyncio
import time

from figures import Bound, Table
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from agent_runner.server_client import ServerClient
from agent_runner.temporal_connection import KEEP_ALIVE
from swallowing_proxy import SwallowingProxy
from temporal_server import TemporalServer

TIMES = 3


def bench_half_open(table: Table) -> None:
    """The longest of some times each."""
    with TemporalServer() as temporal, SwallowingProxy(temporal.port) as proxy:
        seconds = asyncio.run(_to_temporal(proxy))
    table.add(
        f"half-open connection to Temporal, to the next answer, {TIMES} times",
        f"{max(seconds):.1f} s",
        max(seconds),
        Bound(20, "<= 20 s, the longest"),
    )
    seconds = asyncio.run(_to_server())
    table.add(
        f"half-open connection to the server, to the next answer, {TIMES} times",
        f"{max(seconds):.1f} s",
        max(seconds),
        Bound(10, "<= 10 s, the longest"),
    )


async def _to_temporal(proxy: SwallowingProxy) -> list[float]:
    client = await Client.connect(f"127.0.0.1:{proxy.port}", keep_alive_config=KEEP_ALIVE)
    seconds = list[float]()
    for _ in range(TIMES):
        await _ask(client)
        proxy.swallow()
        began_at = time.perf_counter()
        await _ask(client)
        seconds.append(time.perf_counter() - began_at)
    return seconds


async def _ask(client: Client) -> None:
    request = DescribeNamespaceRequest(namespace="default")
    while True:
        try:
            await client.workflow_service.describe_namespace(request, retry=True)
        except RPCError:  # of the connection that was given up; ours ask again, too
            continue
        return


async def _to_server() -> list[float]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    seconds = list[float]()
    with SwallowingProxy(server.sockets[0].getsockname()[1]) as proxy:
        for _ in range(TIMES):
            client = ServerClient(f"http://127.0.0.1:{proxy.port}", "a-token")
            try:
                await client.request("GET", "/x")
                proxy.swallow()
                began_at = time.perf_counter()
                await client.request("GET", "/x")
                seconds.append(time.perf_counter() - began_at)
            finally:
                await client.close()
    server.close()
    return seconds
