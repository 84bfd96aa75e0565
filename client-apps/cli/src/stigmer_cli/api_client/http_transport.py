"""HTTP to one server: requests over a kept connection, and open streams. Knows no resource.

On the standard library's client: importing httpx takes 0.3 s (0.28.1, 2026-11), more than half of the time
that `stigmer run` has from a running stack to its first event.
"""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from stigmer_cli.config import Connection
from stigmer_cli.errors import CallRefused, ServerUnreachable
from stigmer_contract.http_statuses import RETRYABLE_STATUSES

if TYPE_CHECKING:
    import ssl

REQUEST_TIMEOUT_SECONDS = 30.0
STREAM_TIMEOUT_SECONDS = 45.0
"""Longest silence on a stream of a server that does not say for how long it may be silent."""
RETRY_DELAYS_SECONDS = (0.1, 0.4, 1.0)
LONGEST_ASKED_DELAY_SECONDS = 30.0
STREAM_CHUNK_BYTES = 64 * 1024

_CONNECTION_ERRORS = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class HttpResponse:
    """A complete answer with a status below 400."""

    status: int
    body: bytes
    retry_after_seconds: float = 0.0
    """How long the server asks to be left alone; bounded."""


class HttpTransport:
    """Calls one server with its token. Requests of several threads go one after another, beside streams."""

    def __init__(self, connection: Connection, *, timeout_seconds: float | None = None) -> None:
        """`timeout_seconds`: of a request that is sent once; None: the usual time, and some attempts."""
        self._timeout_seconds = REQUEST_TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds
        self._delays_seconds = RETRY_DELAYS_SECONDS if timeout_seconds is None else ()
        self.endpoint = connection.endpoint
        self._address = urlsplit(connection.endpoint)
        self._headers = {"Authorization": f"Bearer {connection.token}", "User-Agent": "stigmer-cli"}
        self._ca_bundle = connection.ca_bundle
        self._kept: http.client.HTTPConnection | None = None
        self._is_free = threading.Lock()
        """Held for one attempt: a kept connection gives its answers in the order of the requests."""

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpResponse:
        """One call that may be sent again: it must be idempotent, or carry an idempotency key.

        Raises:
            CallRefused: the server answered with a problem.
            ServerUnreachable: no answer, after some attempts.
        """
        target = self._target(path, query)
        sent_headers = self._headers | {"Accept": "application/json"} | dict(headers or {})
        for delay_seconds in (*self._delays_seconds, None):
            try:
                response = self._send(method, target, body, sent_headers)
                if response.status < 400:
                    return response
                if response.status not in RETRYABLE_STATUSES or delay_seconds is None:
                    raise read_problem(response.status, response.body)
                delay_seconds = max(delay_seconds, response.retry_after_seconds)
            except _CONNECTION_ERRORS as error:
                if delay_seconds is None or isinstance(error, ConnectionRefusedError):
                    raise ServerUnreachable(self.endpoint, describe_connection_error(error)) from error
            time.sleep(delay_seconds)
        raise AssertionError("unreachable: the last round returns or raises")

    def open_stream(self, path: str, headers: Mapping[str, str]) -> "HttpStream":
        """Begins an answer that goes on; its pieces come from `HttpStream`.

        Raises:
            CallRefused: the server answered with a problem.
            OSError, http.client.HTTPException: no connection.
        """
        connection = self._connect(STREAM_TIMEOUT_SECONDS)
        try:
            connection.request("GET", self._target(path, None), headers=self._headers | dict(headers))
            carrier = connection.sock  # `http.client` forgets it where the answer ends the connection
            response = connection.getresponse()
            if response.status >= 400:
                raise read_problem(response.status, response.read())
        except BaseException:
            connection.close()
            raise
        return HttpStream(connection, response, carrier)

    def close(self) -> None:
        """Closes the kept connection; the next request opens another."""
        if self._kept:
            self._kept.close()
            self._kept = None

    def _send(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> HttpResponse:
        with self._is_free:
            try:
                return self._exchange(method, target, body, headers)
            except BaseException:
                self.close()  # what is left of an answer must not be taken for the next one
                raise

    def _exchange(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]
    ) -> HttpResponse:
        if self._kept is None:
            self._kept = self._connect(self._timeout_seconds)
        self._kept.request(method, target, body=body, headers=dict(headers))
        response = self._kept.getresponse()
        content = response.read()
        # http.client takes headers that were cut off for complete ones, and then the end for the body's.
        if response.length is None and not response.chunked and response.status != http.client.NO_CONTENT:
            raise http.client.IncompleteRead(content)
        retry_after = response.getheader("Retry-After", "")
        asked_seconds = float(retry_after) if retry_after.isdecimal() else 0.0
        return HttpResponse(response.status, content, min(asked_seconds, LONGEST_ASKED_DELAY_SECONDS))

    def _connect(self, timeout_seconds: float) -> http.client.HTTPConnection:
        host, port = self._address.hostname or "", self._address.port
        if self._address.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=timeout_seconds, context=self._tls_context()
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
        connection.connect()
        # Small requests must not wait for the other side's delayed acknowledgement (RFC 896).
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _tls_context(self) -> "ssl.SSLContext":
        import ssl  # only where it is used: 10 ms

        # Without a file of ours OpenSSL takes SSL_CERT_FILE, or the usual authorities.
        return ssl.create_default_context(cafile=self._ca_bundle)

    def _target(self, path: str, query: Mapping[str, str | int | None] | None) -> str:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return self._address.path + path + (f"?{urlencode(given)}" if given else "")


class HttpStream:
    """An answer in pieces, on a connection of its own."""

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        carrier: socket.socket,
    ) -> None:
        self._connection = connection
        self._response = response
        self._carrier = carrier

    def header(self, name: str) -> str:
        """The value of a header of the answer; empty where there is none."""
        return self._response.getheader(name, "")

    def limit_silence(self, seconds: float) -> None:
        """From now on raise `TimeoutError` where nothing comes for so long."""
        self._carrier.settimeout(seconds)

    def __iter__(self) -> Iterator[bytes]:
        """The pieces as they arrive, until the server ends the answer."""
        while chunk := self._response.read1(STREAM_CHUNK_BYTES):
            yield chunk

    def close(self) -> None:
        """Ends the stream."""
        self._response.close()
        self._connection.close()


def read_problem(status: int, body: bytes) -> CallRefused:
    """The error that a problem document (RFC 9457) tells of."""
    from pydantic import ValidationError  # the whole contract, only where something is wrong

    from stigmer_contract.api import Problem

    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        return _read_foreign_problem(status, body)
    return CallRefused(problem.detail or problem.title, problem.hint, code=problem.code, status=status)


def _read_foreign_problem(status: int, body: bytes) -> CallRefused:
    """An answer that is not this version's: a newer server's code, or something else at that port."""
    from stigmer_contract.api import PROBLEM_CONTENT_TYPE

    detail, code = f"the server answered with HTTP status {status}", "unknown"
    hint: str | None = f"check that a stigmer-server answers there ({PROBLEM_CONTENT_TYPE} was expected)"
    try:
        document: object = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, dict):
        texts = {str(key): str(value) for key, value in document.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - any JSON
        if "code" in texts:
            detail, code, hint = texts.get("detail", detail), texts["code"], texts.get("hint")
    return CallRefused(detail, hint, code=code, status=status)


def describe_connection_error(error: BaseException) -> str:
    """Why a connection failed, in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "nothing answers there"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or "the connection broke"
