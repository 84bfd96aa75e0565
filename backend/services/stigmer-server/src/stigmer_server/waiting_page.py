"""Answers for the server while it waits for its database: it lives, is not ready, and why.

Needs nothing that the server needs: no tokens, no routes. One answer a connection.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, Callable
from typing import Final

from stigmer_contract.api import Problem, Readiness, ReadyCheck
from stigmer_contract.error_codes import ErrorCode

HEAD_SECONDS: Final = 5.0
MAX_HEAD_BYTES: Final = 16_384
_BROKEN: Final = (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
_UNAVAILABLE: Final = "503 Service Unavailable"


@contextlib.asynccontextmanager
async def waiting_page(
    listener: socket.socket, tls: ssl.SSLContext | None, version: str, reason: Callable[[], str]
) -> AsyncGenerator[None]:
    """Answer on the listener, which is the caller's own again afterwards."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(*_BROKEN):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_SECONDS)
            path = head.split(b" ", 2)[1] if head.count(b" ") > 1 else b""
            status, kind, body = _answer_of(path.decode("latin-1"), version, reason())
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                "Retry-After: 1\r\nConnection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, sock=listener.dup(), ssl=tls, limit=MAX_HEAD_BYTES)
    async with server:
        yield


def _answer_of(path: str, version: str, reason: str) -> tuple[str, str, bytes]:
    if path == "/healthz":
        return "200 OK", "text/plain", b"ok\n"
    if path == "/readyz":
        check = ReadyCheck(name="database", ok=False, detail=reason)
        readiness = Readiness(ready=False, version=version, checks=[check])
        return _UNAVAILABLE, "application/json", readiness.model_dump_json().encode()
    problem = Problem(title="Unavailable", status=503, detail=reason, code=ErrorCode.UNAVAILABLE)
    return _UNAVAILABLE, "application/problem+json", problem.model_dump_json().encode()
