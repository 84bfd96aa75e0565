"""A small MCP server over streamable HTTP, without any SDK: what it does is what a test asks of it."""

import gzip
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from uuid import uuid4

LOOPBACK: Final = "127.0.0.1"
SESSION_HEADER: Final = "mcp-session-id"


class McpHttpServer:
    """Serves in a thread while it is entered; its tools are `add`, and `cut`, which breaks off its answer."""

    handler: "type[McpHandler]"

    def __init__(self, *, streams: bool = False) -> None:
        """`streams`: answers come as server-sent events."""
        self.streams = streams
        self.sessions: set[str] = set()
        self.calls: list[str] = []
        self.seen: list[Mapping[str, str]] = []
        """The headers of all requests, by lower-case name."""
        self.refuses_with: int | None = None
        """The status that the next call of a tool gets, once."""
        self.demands: str | None = None
        """What `Authorization` must be."""
        self.says: str | None = None
        """What `add` says instead of the sum."""
        self.compresses = False
        """Whether answers are compressed from the first call on, also where nobody asked for that."""
        handler = type("Handler", (self.handler,), {"mcp": self})
        self._http = ThreadingHTTPServer((LOOPBACK, 0), handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._http.server_address[1]

    @property
    def url(self) -> str:
        """Of its endpoint."""
        return f"http://{LOOPBACK}:{self.port}/mcp"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class McpHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mcp: McpHttpServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass

    def do_GET(self) -> None:
        self.answer(405)

    def do_DELETE(self) -> None:
        self.mcp.sessions.discard(self.headers.get(SESSION_HEADER, ""))
        self.answer(204)

    def do_POST(self) -> None:
        self.mcp.seen.append({name.lower(): value for name, value in self.headers.items()})
        if self.path != "/mcp":
            self.answer(404)
            return
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.mcp.demands not in (None, self.headers.get("authorization")):
            self.answer(401, headers={"www-authenticate": "Bearer"})
            return
        if not self.is_let_in(message):
            return
        if message["method"] == "initialize":
            session = uuid4().hex
            self.mcp.sessions.add(session)
            result: dict[str, Any] = {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "web", "version": "1"},
            }
            self._result(message, result, {SESSION_HEADER: session})
        elif self.headers.get(SESSION_HEADER) not in self.mcp.sessions:
            self.answer(404)
        elif "id" not in message:
            self.answer(202)
        elif message["method"] == "tools/list":
            schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
            tools = [{"name": name, "inputSchema": schema} for name in ("add", "cut")]
            self._result(message, {"tools": tools})
        elif message["method"] == "tools/call":
            self._call(message)
        else:
            self.answer(404)

    def is_let_in(self, message: dict[str, Any]) -> bool:
        """Whether the request is answered as asked; else it was refused here."""
        return True

    def _call(self, message: dict[str, Any]) -> None:
        if self.mcp.refuses_with is not None:
            status, self.mcp.refuses_with = self.mcp.refuses_with, None
            self.mcp.sessions.clear()
            self.answer(status)
            return
        name, arguments = message["params"]["name"], message["params"]["arguments"]
        self.mcp.calls.append(name)
        if name == "cut" and self.mcp.calls.count("cut") == 1:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            self.close_connection = True
            return
        total = arguments.get("a", 0) + arguments.get("b", 0)
        self._result(message, {"content": [{"type": "text", "text": self.mcp.says or str(total)}]})

    def _result(
        self, message: dict[str, Any], result: dict[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
        if self.mcp.streams:
            self.answer(200, b"event: message\ndata: " + body + b"\n\n", "text/event-stream", headers)
        else:
            self.answer(200, body, headers=headers)

    def answer(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        if self.mcp.compresses and self.mcp.calls and body:
            body = gzip.compress(body)
            self.send_header("content-encoding", "gzip")
        self.send_header("content-length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


McpHttpServer.handler = McpHandler
