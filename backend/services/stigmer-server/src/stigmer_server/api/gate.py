"""What every request passes before a route sees it: host, token or the console's session, rate, size.
Its answer gets headers here, too.

Plain ASGI, since it is on the path of every append and of every piece of a stream. Which token a route
needs is `access`' business.
"""

from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stigmer_server.api.access import CREDENTIAL_KEY
from stigmer_server.api.answer_page import is_answer_path
from stigmer_server.api.auditing import Auditor
from stigmer_server.api.console import SIGN_IN_PATH, is_page_path
from stigmer_server.api.console_calls import HEADER as CONSOLE_HEADER
from stigmer_server.api.console_calls import comes_from_own_page, cookies_of
from stigmer_server.api.problems import problem_response
from stigmer_server.blobs import MAX_BLOB_BYTES
from stigmer_server.console_sessions import ConsoleSessions
from stigmer_server.credentials import Credential, Credentials
from stigmer_server.errors import (
    CallRefused,
    HostNotAllowed,
    PayloadTooLarge,
    Unauthenticated,
    Unavailable,
)
from stigmer_server.installation import Installation
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


@dataclass(frozen=True, slots=True)
class ConsoleCalls:
    """Finds whose call it is that a page of the console makes."""

    sessions: ConsoleSessions
    installation: Installation

    def recall(self, scope: Scope, headers: dict[bytes, bytes]) -> Credential | None:
        """Of a session that was looked up a moment ago."""
        secret, cookies = self._read(scope, headers)
        return self.sessions.recall(cookies, secret) if cookies else None

    async def find(self, scope: Scope, headers: dict[bytes, bytes]) -> Credential | None:
        """Of any session.

        Raises:
            Unavailable: the database does not answer.
        """
        secret, cookies = self._read(scope, headers)
        return await self.sessions.find(cookies, secret) if cookies else None

    def _read(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[str, list[str]]:
        """The page's secret and its cookies; none where the call is of no page of this server."""
        secret = headers.get(CONSOLE_HEADER, b"").decode("latin-1")
        # Whoever shows a token is known by that, or not at all.
        is_of_page = secret and b"authorization" not in headers
        if not is_of_page or not comes_from_own_page(scope["method"], headers):
            return secret, []
        return secret, cookies_of(headers, self.installation.installation_id)


@dataclass(slots=True)
class _Counted:
    """A call in hand: whose it is, and where it is counted."""

    credential: Credential | None
    limits: RateLimits
    caller: str


class Gate:
    """ASGI middleware; the outermost."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        credentials: Credentials,
        console: ConsoleCalls,
        allowed_hosts: frozenset[str],
        limits: GateLimits,
        auditor: Auditor,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._credentials = credentials
        self._console = console
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
        counted = self._recognise(scope, received)
        try:
            counted.limits.enter(counted.caller)
        except CallRefused as refusal:
            await problem_response(refusal)(scope, receive, finished_send)
            self._metrics.observe_request(scope["method"], "refused", status)
            return
        state = scope.setdefault("state", {})
        try:
            refusal = await self._identify(scope, received, counted)
            if counted.credential is not None:
                state[CREDENTIAL_KEY] = counted.credential
            if refusal is None:
                await self._app(scope, receive, finished_send)
            else:
                await problem_response(refusal)(scope, receive, finished_send)
        finally:
            counted.limits.leave(counted.caller)
            route = scope.get("route")
            self._metrics.observe_request(scope["method"], getattr(route, "path", "other"), status)
            # A call that signs in to the console tells only then who makes it.
            self._auditor.observe(scope, state.get(CREDENTIAL_KEY), status, location)

    def _recognise(self, scope: Scope, headers: dict[bytes, bytes]) -> "_Counted":
        """Whose call it is, as far as that is in memory, and by which limits and name it is counted."""
        authorization = headers.get(b"authorization", b"")
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() == _BEARER:
            credential = self._credentials.find(token.strip(b" ").decode("latin-1"))
        else:
            credential = self._console.recall(scope, headers)
        if credential is None:
            is_probe = scope["path"] in OPEN_PATHS and not authorization
            limits = self._limits.probes if is_probe else self._limits.strangers
            return _Counted(None, limits, _peer(scope) or "")
        return _Counted(credential, self._limits.tokens, credential.token_id)

    async def _identify(
        self, scope: Scope, headers: dict[bytes, bytes], counted: "_Counted"
    ) -> CallRefused | Unavailable | None:
        """Why the call is refused; finds whose it is, where only the database knows.

        Until that is known the call counts as a stranger's: everybody may guess.
        """
        try:
            if counted.credential is None:
                credential = await self._console.find(scope, headers)
                if credential is not None:
                    self._limits.tokens.enter(credential.token_id)
                    counted.limits.leave(counted.caller)
                    counted.credential = credential
                    counted.limits, counted.caller = self._limits.tokens, credential.token_id
        except (CallRefused, Unavailable) as error:
            return error
        return self._find_refusal(scope, headers, counted.credential)

    def _find_refusal(
        self, scope: Scope, headers: dict[bytes, bytes], credential: Credential | None
    ) -> CallRefused | None:
        host = headers.get(b"host", b"").decode("latin-1")
        if "*" not in self._allowed_hosts and _without_port(host) not in self._allowed_hosts:
            return HostNotAllowed(host)
        if credential is None and not _is_open(scope):
            return Unauthenticated()
        # A body that does not tell its size is measured by FastAPI as it comes in.
        length = headers.get(b"content-length", b"")
        limit = MAX_BLOB_BYTES if scope["path"].startswith(_BLOB_PREFIX) else MAX_BODY_BYTES
        if length.isdigit() and int(length) > limit:
            return PayloadTooLarge("the body", limit)
        return None


def _is_open(scope: Scope) -> bool:
    """Whether the call is answered without a token."""
    path: str = scope["path"]
    if is_answer_path(path):
        return True
    if scope["method"] == "POST":
        return path in OPEN_PATHS or path == SIGN_IN_PATH
    return path in OPEN_PATHS or is_page_path(path)


def _finished_headers(message: Message, scope: Scope) -> list[tuple[bytes, bytes]]:
    headers = [*message.get("headers", ())]
    given = {name for name, _ in headers}
    headers.extend(header for header in (*_SECURITY_HEADERS, _NO_STORE) if header[0] not in given)
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
