"""What every request passes before a route sees it: host, token, rate, size; and what its answer gets.

Plain ASGI, since it is on the path of every append and of every piece of a stream. Which token a route
needs is `access`' business.
"""

from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stigmer_server.api.access import CREDENTIAL_KEY
from stigmer_server.api.auditing import Auditor
from stigmer_server.api.problems import problem_response
from stigmer_server.blobs import MAX_BLOB_BYTES
from stigmer_server.credentials import Credential, Credentials
from stigmer_server.errors import CallRefused, HostNotAllowed, PayloadTooLarge, Unauthenticated
from stigmer_server.metrics import Metrics
from stigmer_server.rate_limits import RateLimits

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""Answered without a token: probes have none, and these tell nothing secret."""
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""For everything but blobs; the largest legal input (1,000,000 characters, escaped) is below."""
_BLOB_PREFIX: Final = "/v1/blobs/"
_BEARER: Final = b"bearer"
"""In whatever case: RFC 9110, section 11.1."""
_SECURITY_HEADERS: Final = (
    # An answer is data, whatever a browser thinks that it sees in it.
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
)
_NO_STORE: Final = (b"cache-control", b"no-store")
_ONLY_TLS: Final = (b"strict-transport-security", b"max-age=31536000")


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What is counted for each token, and for strangers and for probes by their address."""

    tokens: RateLimits
    strangers: RateLimits
    probes: RateLimits
    """Of the open paths, so that a flood of guesses does not make the server look dead."""


class Gate:
    """ASGI middleware; the outermost."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        credentials: Credentials,
        allowed_hosts: frozenset[str],
        limits: GateLimits,
        auditor: Auditor,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._credentials = credentials
        self._allowed_hosts = allowed_hosts
        self._limits = limits
        self._auditor = auditor
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, location = 500, None

        async def finished_send(message: Message) -> None:
            nonlocal status, location
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = _finished_headers(message, scope)
                if status == 201:
                    location = dict(headers).get(b"location")
            await send(message)

        received: dict[bytes, bytes] = dict(scope["headers"])
        credential, limits, caller = self._recognise(scope, received)
        try:
            limits.enter(caller)
        except CallRefused as refusal:
            await problem_response(refusal)(scope, receive, finished_send)
            self._metrics.observe_request(scope["method"], "refused", status)
            return
        try:
            refusal = self._find_refusal(scope, received, credential)
            if refusal is None:
                await self._app(scope, receive, finished_send)
            else:
                await problem_response(refusal)(scope, receive, finished_send)
        finally:
            limits.leave(caller)
            route = scope.get("route")
            self._metrics.observe_request(scope["method"], getattr(route, "path", "other"), status)
            self._auditor.observe(scope, credential, status, location)

    def _recognise(
        self, scope: Scope, headers: dict[bytes, bytes]
    ) -> tuple[Credential | None, RateLimits, str]:
        """Whose call it is, and by which limits and name it is counted."""
        authorization = headers.get(b"authorization", b"")
        scheme, _, token = authorization.partition(b" ")
        credential = None
        if scheme.lower() == _BEARER:
            credential = self._credentials.find(token.strip(b" ").decode("latin-1"))
        if credential is None:
            is_probe = scope["path"] in OPEN_PATHS and not authorization
            limits = self._limits.probes if is_probe else self._limits.strangers
            return None, limits, _peer(scope) or ""
        scope.setdefault("state", {})[CREDENTIAL_KEY] = credential
        return credential, self._limits.tokens, credential.token_id

    def _find_refusal(
        self, scope: Scope, headers: dict[bytes, bytes], credential: Credential | None
    ) -> CallRefused | None:
        host = headers.get(b"host", b"").decode("latin-1")
        if "*" not in self._allowed_hosts and _without_port(host) not in self._allowed_hosts:
            return HostNotAllowed(host)
        if credential is None and scope["path"] not in OPEN_PATHS:
            return Unauthenticated()
        # A body that does not tell its size is measured by FastAPI as it comes in.
        length = headers.get(b"content-length", b"")
        limit = MAX_BLOB_BYTES if scope["path"].startswith(_BLOB_PREFIX) else MAX_BODY_BYTES
        if length.isdigit() and int(length) > limit:
            return PayloadTooLarge("the body", limit)
        return None


def _finished_headers(message: Message, scope: Scope) -> list[tuple[bytes, bytes]]:
    headers = [*message.get("headers", ()), *_SECURITY_HEADERS]
    if not any(name == b"cache-control" for name, _ in headers):
        headers.append(_NO_STORE)
    if scope["scheme"] == "https":
        headers.append(_ONLY_TLS)
    return headers


def _peer(scope: Scope) -> str | None:
    client = scope.get("client")
    return None if client is None else client[0]


def _without_port(host: str) -> str:
    """The name in a `Host` header (RFC 9110, section 7.2), lower case; IPv6 keeps its brackets."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()
