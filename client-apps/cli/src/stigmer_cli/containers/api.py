"""The engines' HTTP API over a Unix socket: requests, JSON, streams, and broken connections as errors.

Knows no call by name. One connection for each request, as streams would block a shared one.
"""

import http.client
import json
import socket
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast
from urllib.parse import quote, urlencode

from stigmer_cli.containers.errors import EngineGone, EngineRefused

CALL_TIMEOUT_SECONDS = 30.0
"""For a call that is answered at once; the engines are slow while they pull."""
CONNECT_TIMEOUT_SECONDS = 3.0
_CHUNK_BYTES = 65_536
_MAX_ERROR_BYTES = 65_536

Json = dict[str, Any]


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, socket_path: str, timeout_seconds: float | None) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._socket_path = socket_path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(CONNECT_TIMEOUT_SECONDS)
            self.sock.connect(self._socket_path)
            self.sock.settimeout(self.timeout)
        except BaseException:
            self.sock.close()
            raise

    def shut(self) -> None:
        """Ends the connection from another thread: whoever reads from it sees its end."""
        if self.sock is not None:
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it has ended already


class Stream:
    """The body of an answer that goes on. The head of the answer is waited for when it is needed."""

    def __init__(self, connection: _SocketConnection, what: str) -> None:
        self._connection = connection
        self._response: http.client.HTTPResponse | None = None
        self._what = what
        self._closed = threading.Event()

    def open(self) -> http.client.HTTPResponse:
        """Waits for the head of the answer.

        Raises:
            EngineRefused: it is an error.
            EngineGone: there is none.
        """
        if self._response is None:
            try:
                response = self._connection.getresponse()
                is_error = response.status >= http.client.BAD_REQUEST
                said = response.read(_MAX_ERROR_BYTES) if is_error else b""
            except (OSError, http.client.HTTPException) as error:
                raise EngineGone(self._what, str(error) or type(error).__name__) from error
            if is_error:
                raise EngineRefused(self._what, response.status, _message_of(said))
            self._response = response
        return self._response

    def read_exactly(self, count: int) -> bytes | None:
        """So many bytes; None at the end of the stream."""
        received = b""
        while len(received) < count:
            chunk = self._read(count - len(received))
            if not chunk:
                return None
            received += chunk
        return received

    def chunks(self) -> Iterator[bytes]:
        """The body, as it comes."""
        while chunk := self._read(_CHUNK_BYTES):
            yield chunk

    def documents(self) -> Iterator[Json]:
        """The body as JSON documents, one a line."""
        rest = b""
        for chunk in self.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (cast("Json", json.loads(line)) for line in lines if line.strip())
        if rest.strip():
            yield cast("Json", json.loads(rest))

    def close(self) -> None:
        """Ends the stream; may be called from another thread than reads it."""
        self._closed.set()
        self._connection.shut()

    def _read(self, count: int) -> bytes:
        try:
            return self.open().read1(count)
        except (EngineGone, OSError, http.client.HTTPException, ValueError) as error:
            if self._closed.is_set():
                return b""
            raise EngineGone(self._what, str(error) or type(error).__name__) from error


@dataclass(frozen=True)
class EngineApi:
    """Calls to one engine."""

    socket_path: str
    version: str = ""
    """`/v1.41`: which version of the API to ask for; empty: the engine's choice."""

    def call(
        self,
        what: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        timeout_seconds: float | None = CALL_TIMEOUT_SECONDS,
    ) -> Any:
        """One call; answers the parsed JSON, or None where there is none. `what` completes `could not …`.

        Raises:
            EngineRefused: the engine answered with an error; `status` tells which.
            EngineGone: it did not answer.
        """
        with self.stream(
            what, method, path, query=query, body=body, timeout_seconds=timeout_seconds
        ) as stream:
            content = b"".join(stream.chunks())
        if not content.strip():
            return None
        try:
            return json.loads(content)
        except ValueError as error:
            raise EngineGone(what, "its answer is not JSON") from error

    def headers(self, what: str, path: str, timeout_seconds: float) -> Mapping[str, str]:
        """What the head of an answer says, by name in any case.

        Raises:
            EngineRefused, EngineGone: as `call`.
        """
        with self.stream(what, "GET", path, timeout_seconds=timeout_seconds) as stream:
            return cast("Mapping[str, str]", stream.open().headers)

    @contextmanager
    def stream(
        self,
        what: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | BinaryIO | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        is_opened: bool = True,
    ) -> Generator[Stream]:
        """A call whose answer goes on. `timeout_seconds` bounds each silence; None: any.

        With `is_opened` False the answer's head is not waited for: Podman 4.3 sends it with the first piece.

        Raises:
            EngineRefused, EngineGone: as `call`.
        """
        connection = _SocketConnection(self.socket_path, timeout_seconds)
        try:
            self._send(connection, what, method, path, query, body, headers)
            stream = Stream(connection, what)
            if is_opened:
                stream.open()
            yield stream
        finally:
            connection.shut()
            connection.close()

    def _send(
        self,
        connection: _SocketConnection,
        what: str,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Json | BinaryIO | None,
        headers: Mapping[str, str] | None,
    ) -> None:
        target = f"{self.version}{quote(path)}" + (f"?{urlencode(query)}" if query else "")
        is_json = isinstance(body, dict)
        content = json.dumps(body).encode() if is_json else body
        kind = (
            {"Content-Type": "application/json" if is_json else "application/x-tar"}
            if body is not None
            else {}
        )
        try:
            connection.request(method, target, body=content, headers={**kind, **(headers or {})})
        except (BrokenPipeError, ConnectionResetError):
            return  # it has answered before it had read all, such as where its disk is full: `open` tells
        except (OSError, http.client.HTTPException) as error:
            raise EngineGone(what, str(error) or type(error).__name__) from error


def _message_of(content: bytes) -> str:
    """Docker says `message`; Podman `message` and `cause`."""
    try:
        document: object = json.loads(content)
    except ValueError:
        return content.decode(errors="replace").strip()
    if isinstance(document, dict):
        return str(cast("Json", document).get("message", "")).strip()
    return str(document)
