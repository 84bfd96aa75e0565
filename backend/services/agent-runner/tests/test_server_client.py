"""The runner's calls to the server, over a server, or a proxy before it, that is busy."""

import asyncio

import pytest

from agent_runner.errors import ServerRefused
from agent_runner.server_client import ServerClient


async def ask(statuses: list[int]) -> tuple[bytes, int]:
    """Make a call to a server that answers with these, then with 200; and how often it was asked."""
    asked = 0

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        status = statuses[asked] if asked < len(statuses) else 200
        asked += 1
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    client = ServerClient(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", "token")
    try:
        return await client.request("GET", "/v1/installation"), asked
    finally:
        await client.close()
        listener.close()


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
async def test_a_call_that_may_work_a_moment_later_is_made_again(status: int) -> None:
    assert await ask([status, status]) == (b"{}", 3)


async def test_a_call_that_was_refused_is_not_made_again() -> None:
    with pytest.raises(ServerRefused):
        await ask([400])
