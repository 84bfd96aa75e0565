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
BODY_GRACE_SECONDS: Final = 30.0
"""A body may take so long, and the time that it takes at `BODY_BYTES_PER_SECOND`."""
BODY_BYTES_PER_SECOND: Final = 16 * 1024
BODY_LOOK_SECONDS: Final = 5.0
MAX_IDLE_CONNECTIONS: Final = 1000
"""Connections without a request in hand; of more, the one that has been so the longest is closed."""
_ONCE: Final = frozenset({b"host", b"authorization", b"stigmer-lease", b"idempotency-key", b"last-event-id"})
"""Headers of which two would mean two things (for `Host`: RFC 9112, section 3.2)."""


_idle: Final[dict["BoundedHttpProtocol", None]] = {}
"""Connections without a request in hand, the longest so first."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection."""

    _is_refused = False
    _awaits_headers = False
    _awaited_bytes = 0
    _timer: asyncio.TimerHandle | None = None
    _body_timer: asyncio.TimerHandle | None = None
    _body_allowance = 0.0
    """Seconds that the body in hand may still take."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wait for the first request, not for ever."""
        super().connection_made(transport)
        self._start_timer()
        self._begin_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        self._stop_timer()
        self._stop_body_timer()
        _idle.pop(self, None)
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
        _idle.pop(self, None)
        url_bytes = len(self.url)
        if self._is_refused:
            return
        if url_bytes > MAX_URL_BYTES:
            self._refuse(414, "URI Too Long", f"the URL is longer than {MAX_URL_BYTES} bytes")
        elif url_bytes + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEADER_BYTES:
            self._refuse_headers()
        elif twice := _find_twice([name for name, _ in self.headers]):
            self._refuse(400, "Bad Request", f"there are two headers {twice.decode('ascii')!r}")
        else:
            self._body_allowance = BODY_GRACE_SECONDS
            self._body_timer = self.loop.call_later(BODY_LOOK_SECONDS, self._look_at_body)
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if not self._is_refused:
            self._body_allowance += len(body) / BODY_BYTES_PER_SECOND
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._stop_body_timer()
        if not self._is_refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out; until the next request the connection is idle."""
        super().on_response_complete()
        if not self.transport.is_closing() and not self.pipeline:
            self._begin_idle()

    def _begin_idle(self) -> None:
        _idle[self] = None
        if len(_idle) > MAX_IDLE_CONNECTIONS:
            longest = next(iter(_idle))
            del _idle[longest]
            longest.transport.close()

    def _look_at_body(self) -> None:
        """End a request whose body comes too slowly; that we are slow to take it is not held against it."""
        if not self.flow.read_paused:
            self._body_allowance -= BODY_LOOK_SECONDS
        if self._body_allowance > 0:
            self._body_timer = self.loop.call_later(BODY_LOOK_SECONDS, self._look_at_body)
        elif self.cycle.response_started:
            self.transport.close()
        else:
            self._refuse(408, "Request Timeout", "the body did not come in time")

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

    def _stop_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _find_twice(names: list[bytes]) -> bytes | None:
    """A header that stands there twice, and may not."""
    for name in _ONCE:
        if names.count(name) > 1:
            return name
    return None
