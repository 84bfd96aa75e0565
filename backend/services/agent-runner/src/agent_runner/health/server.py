"""Answers `/healthz` and `/readyz` for this process. What makes a runner ready is told by the caller."""

import asyncio
import contextlib
import http.client
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Final, Self

from stigmer_contract.isolation_words import ISOLATION_LEVELS

logger = logging.getLogger(__name__)

CHECK_TIMEOUT_SECONDS: Final = 2.0
REQUEST_TIMEOUT_SECONDS: Final = 5.0
MAX_REQUEST_BYTES: Final = 16 * 1024

Check = Callable[[], Awaitable[str | None]]
"""Whether one thing is as it should be: None, or the reason why not."""


class HealthServer:
    """Serves health over HTTP while it is entered.

    `/healthz` is 200 as long as the event loop turns. `/readyz` is 200 or 503 with a `Readiness` of the
    contract as JSON. `/metrics` is Prometheus' text format.
    """

    def __init__(
        self,
        host: str,
        port: int,
        checks: Mapping[str, Check],
        *,
        version: str,
        isolation: Mapping[str, object] | None = None,
        find_warnings: Callable[[], list[str]] = list,
        find_other_build: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Port 0: a free one is chosen, see `port`. `isolation` is the contract's `IsolationState`."""
        self._isolation = isolation
        self._find_warnings = find_warnings
        self._find_other_build = find_other_build
        self.host = host
        self.port = port
        self._checks = checks
        self._version = version
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Begin to listen.

        Raises:
            OSError: the address cannot be used.
        """
        self._server = await asyncio.start_server(self._accept, self.host, self.port, limit=MAX_REQUEST_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def stop_listening(self) -> None:
        """Give the address back, before the end of all."""
        if self._server is not None:
            self._server.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError):
                async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                    await self._answer(reader, writer)
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        path, kind = target.partition("?")[0], "application/json"
        if method not in ("GET", "HEAD"):
            status, body = 405, b'{"title": "Method Not Allowed"}'
        elif path == "/healthz":
            status, body = 200, b'{"alive": true}'
        elif path == "/readyz":
            status, body = await self._readiness()
        elif path == "/metrics":
            status, kind, body = 200, "text/plain; version=0.0.4; charset=utf-8", self._metrics()
        else:
            status, body = 404, b'{"title": "Not Found"}'
        phrase = http.client.responses[status]
        writer.write(
            f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n".encode()
        )
        if method != "HEAD":
            writer.write(body)
        await writer.drain()

    async def _readiness(self) -> tuple[int, bytes]:
        details = await asyncio.gather(*(_run_check(name, check) for name, check in self._checks.items()))
        checks = [
            {"name": name, "ok": detail is None, "detail": detail}
            for name, detail in zip(self._checks, details, strict=True)
        ]
        ready = all(detail is None for detail in details)
        other_build = self._find_other_build()
        body: dict[str, object] = {
            "ready": ready,
            "version": self._version,
            "checks": checks,
            "warnings": self._find_warnings(),
            "isolation": self._isolation,
        }
        if other_build is not None:
            body["other_build"] = other_build
        return (200 if ready else 503), json.dumps(body).encode()

    def _metrics(self) -> bytes:
        isolation = self._isolation or {}
        level, bubblewrap = isolation.get("level"), isolation.get("bubblewrap", False)
        lines = [
            "# HELP stigmer_runner_isolation How well commands are isolated: 1 for the level that holds.",
            "# TYPE stigmer_runner_isolation gauge",
            *(
                f'stigmer_runner_isolation{{level="{each}"}} {int(each == level)}'
                for each in ISOLATION_LEVELS
            ),
            "# HELP stigmer_runner_bubblewrap Whether commands run in bubblewrap, besides.",
            "# TYPE stigmer_runner_bubblewrap gauge",
            f"stigmer_runner_bubblewrap {int(bool(bubblewrap))}",
        ]
        return ("\n".join(lines) + "\n").encode("ascii")


async def _run_check(name: str, check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_SECONDS:g} seconds"
    except Exception as error:  # the boundary of a request: a broken check must not take health down
        logger.exception("readiness check failed", extra={"check": name})
        return f"the check itself failed: {type(error).__name__}"
