"""The runner's calls to a server whose connections go bad, or that is not there for a moment."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from agent_runner.server_client import ServerClient
from stigmer_contract.http_statuses import RETRYABLE_STATUSES

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class HalfOpenServer:
    """Answers on connections that are opened; swallows what comes on those that stood open at a moment."""

    def __init__(self) -> None:
        self.connections = 0
        self.swallowed = 0
        self._swallowing_up_to = 0

    def swallow(self) -> None:
        """Let the connections of now take everything and give nothing."""
        self._swallowing_up_to = self.connections

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                if number <= self._swallowing_up_to:
                    self.swallowed += 1
                    continue
                writer.write(ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def calling(half_open: HalfOpenServer) -> AsyncGenerator[ServerClient]:
    """A client of the server."""
    server = await asyncio.start_server(half_open.serve, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    client = ServerClient(f"http://127.0.0.1:{port}", "a-token")
    try:
        yield client
    finally:
        await client.close()
        server.close()


async def test_a_connection_that_swallows_everything_is_given_up_and_others_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent_runner.server_client.FIRST_TIMEOUT_SECONDS", 0.5)
    half_open = HalfOpenServer()
    async with calling(half_open) as client, asyncio.timeout(60):
        assert await asyncio.gather(*(client.request("GET", "/x") for _ in range(5))) == [b"ok"] * 5
        before = half_open.connections
        half_open.swallow()
        assert await client.request("GET", "/x") == b"ok"
        swallowed = half_open.swallowed
        for _ in range(before):  # none of the old connections is tried any more
            assert await client.request("GET", "/x") == b"ok"
        assert half_open.swallowed == swallowed


@pytest.mark.parametrize("status", sorted(RETRYABLE_STATUSES))
async def test_an_answer_that_another_moment_may_change_is_asked_for_again(status: int) -> None:
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                asked += 1
                refusal = f"HTTP/1.1 {status} Later\r\nContent-Length: 0\r\n\r\n".encode()
                writer.write(refusal if asked == 1 else ANSWER)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    client = ServerClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "a-token")
    try:
        async with asyncio.timeout(60):
            assert await client.request("GET", "/x") == b"ok"
    finally:
        await client.close()
        server.close()
    assert asked == 2
