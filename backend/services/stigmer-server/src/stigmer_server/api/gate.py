"""What every request passes before a route sees it: host, token, size; and the count of its answer.

Plain ASGI, since it is on the path of every append and of every piece of a stream.
"""

import hmac
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stigmer_server.api.problems import problem_response
from stigmer_server.blobs import MAX_BLOB_BYTES
from stigmer_server.errors import CallRefused, HostNotAllowed, PayloadTooLarge, Unauthenticated
from stigmer_server.metrics import Metrics

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""Answered without a token: probes have none, and these tell nothing secret."""
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""For everything but blobs; the largest legal input (1,000,000 characters, escaped) is below."""
_BLOB_PREFIX: Final = "/v1/blobs/"


class Gate:
    """ASGI middleware; the outermost."""

    def __init__(self, app: ASGIApp, *, token: str, allowed_hosts: frozenset[str], metrics: Metrics) -> None:
        self._app = app
        self._authorization = f"Bearer {token}".encode()
        self._allowed_hosts = allowed_hosts
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def counted_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refusal = self._find_refusal(scope)
            if refusal is None:
                await self._app(scope, receive, counted_send)
            else:
                await problem_response(refusal)(scope, receive, counted_send)
        finally:
            route = scope.get("route")
            self._metrics.observe_request(scope["method"], getattr(route, "path", "other"), status)

    def _find_refusal(self, scope: Scope) -> CallRefused | None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if "*" not in self._allowed_hosts and _without_port(host) not in self._allowed_hosts:
            return HostNotAllowed(host)
        if scope["path"] not in OPEN_PATHS and not hmac.compare_digest(
            headers.get(b"authorization", b""), self._authorization
        ):
            return Unauthenticated()
        # A body that does not tell its size is measured by FastAPI as it comes in.
        length = headers.get(b"content-length", b"0")
        limit = MAX_BLOB_BYTES if scope["path"].startswith(_BLOB_PREFIX) else MAX_BODY_BYTES
        if length.isdigit() and int(length) > limit:
            return PayloadTooLarge("the body", limit)
        return None


def _without_port(host: str) -> str:
    """The name in a `Host` header (RFC 9110, section 7.2), lower case; IPv6 keeps its brackets."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()
