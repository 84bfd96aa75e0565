"""Takes messages to webhooks over HTTP, and answers as it is told."""

import asyncio
import threading
from dataclasses import dataclass
from typing import Final

from thread_server import ThreadServer

WAIT_SECONDS: Final = 120.0


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


class WebhookReceiver(ThreadServer):
    """Answers 204, but for the statuses of `answers`, which come first, in order."""

    def __init__(self, *answers: int) -> None:
        super().__init__()
        self._answers = list(answers)
        self._received: list[Received] = []
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        """Where to post to."""
        return f"http://127.0.0.1:{self.port}/hook"

    def wait_for(self, count: int) -> list[Received]:
        """The requests, once there are so many."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._received) >= count, WAIT_SECONDS):
                raise TimeoutError(f"{len(self._received)} of {count} messages came")
            return list(self._received)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = [line.partition(":") for line in head[1:] if line]
        headers = {name.lower(): value.strip() for name, _, value in fields}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        with self._changed:
            status = self._answers.pop(0) if self._answers else 204
            self._received.append(Received(head[0].split()[1], headers, body))
            self._changed.notify_all()
        location = "Location: /elsewhere\r\n" if 300 <= status < 400 else ""
        writer.write(
            f"HTTP/1.1 {status} X\r\n{location}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        await writer.drain()
