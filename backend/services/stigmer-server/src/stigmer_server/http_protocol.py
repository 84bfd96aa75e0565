"""HTTP/1.1 with bounds: on what a request's line and headers may hold, and on how long they may take.

Uvicorn's parser for httptools has neither (0.54), so that a stranger could fill the memory, or hold
connections, before anybody has looked for a token. A request that comes in one piece pays one sum.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stigmer_contract.api import PROBLEM_CONTENT_TYPE, Problem
from stigmer_contract.error_codes import ErrorCode

MAX_URL_BYTES: Final = 8 * 1024
MAX_HEADER_BYTES: Final = 32 * 1024
"""Of all headers of a request, with its URL."""
HEADER_TIMEOUT_SECONDS: Final = 15.0
"""From a connection's beginning, or a request's first bytes, to the end of its headers."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection."""

    _is_refused = False
    _awaits_headers = False
    _awaited_bytes = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wait for the first request, not for ever."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless the connection has been given up."""
        if self._is_refused:
            return
        super().data_received(data)
        if self._awaits_headers:
            self._awaited_bytes += len(data)
            if self._awaited_bytes > MAX_HEADER_BYTES:
                self._refuse_headers()
            elif self._timer is None:
                self._start_timer()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._awaits_headers, self._awaited_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Start the application, unless the request is too large for it."""
        self._awaits_headers = False
        self._stop_timer()
        url_bytes = len(self.url)
        if self._is_refused:
            return
        if url_bytes > MAX_URL_BYTES:
            self._refuse(414, "URI Too Long", f"the URL is longer than {MAX_URL_BYTES} bytes")
        elif url_bytes + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEADER_BYTES:
            self._refuse_headers()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if not self._is_refused:
            super().on_message_complete()

    def _refuse_headers(self) -> None:
        detail = f"the headers are larger than {MAX_HEADER_BYTES} bytes"
        self._refuse(431, "Request Header Fields Too Large", detail)

    def _give_up(self) -> None:
        self._refuse(408, "Request Timeout", "the headers did not come in time")

    def _refuse(self, status: int, title: str, detail: str) -> None:
        """Answer and hang up; what is still on its way is not read."""
        self._is_refused = True
        self._stop_timer()
        problem = Problem(title=title, status=status, detail=detail, code=ErrorCode.INVALID_REQUEST)
        body = problem.model_dump_json(exclude_none=True).encode()
        lines = (
            f"HTTP/1.1 {status} {title}",
            f"content-type: {PROBLEM_CONTENT_TYPE}",
            f"content-length: {len(body)}",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "connection: close",
        )
        self.transport.write("\r\n".join((*lines, "", "")).encode() + body)
        self.transport.close()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(HEADER_TIMEOUT_SECONDS, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
