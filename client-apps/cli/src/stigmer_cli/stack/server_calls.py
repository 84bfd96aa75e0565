"""The supervisor's own calls to the local server, in its event loop: one connection each, small bodies."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAX_ANSWER_BYTES = 4_000_000


class CallFailed(Exception):
    """The server is not there, or does not answer as it should. The same call may work later."""


@dataclass(frozen=True)
class LocalServer:
    """Where the server of the stack answers, and by which token."""

    host: str
    port: int
    token_file: Path

    async def call(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, timeout_seconds: float
    ) -> tuple[int, Any]:
        """Makes one call; answers its status and what JSON came.

        Raises:
            CallFailed: there is no answer in time, or none that can be read.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                return _read(await self._exchange(method, path, body))
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:  # TimeoutError is an OSError
            raise CallFailed(str(error) or type(error).__name__) from error

    async def _exchange(self, method: str, path: str, body: Mapping[str, object] | None) -> bytes:
        token = self.token_file.read_text(encoding="ascii").strip()
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(head.encode("ascii") + content)
            await writer.drain()
            answer = bytearray()
            while piece := await reader.read(65_536):
                answer += piece
                if len(answer) > _MAX_ANSWER_BYTES:
                    raise ValueError("the answer is too long")
            return bytes(answer)
        finally:
            writer.close()


def _read(answer: bytes) -> tuple[int, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else 0
    if b"chunked" in head.lower() or not status:
        raise ValueError("the answer is not one that is understood")
    return status, json.loads(body) if body else None
