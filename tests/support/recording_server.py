"""An HTTP server that answers as it is told, and keeps what it was asked."""

import http.server
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    target: str
    """Path and query."""
    headers: Mapping[str, str]
    """Their names in lower case."""
    body: bytes


@dataclass(frozen=True)
class Given:
    """One answer."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    promised: int = 0
    """So many bytes more are promised than come: the connection breaks off."""


class RecordingServer:
    """Listens on loopback while it is entered."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[str, Given] = {}
        """By path, without the query; others are 404."""
        recording = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's
                pass

            def do_any(self) -> None:
                size = int(self.headers.get("content-length", "0"))
                headers = {name.lower(): value for name, value in self.headers.items()}
                recording.asked.append(Asked(self.command, self.path, headers, self.rfile.read(size)))
                given = recording.answers.get(self.path.partition("?")[0], Given(b"nothing here", 404))
                self.send_response(given.status)
                for name, value in given.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(given.body) + given.promised))
                self.send_header("connection", "close")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(given.body)
                self.close_connection = True

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_any

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "RecordingServer":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
