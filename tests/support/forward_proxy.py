"""A web proxy that wants a password, as companies have one: for HTTP, and tunnels for HTTPS (RFC 9110)."""

import asyncio
import base64
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from thread_server import ThreadServer, join_streams

USER: Final = "proxy-user"
PASSWORD: Final = "proxy-password-5f1c"


class ForwardProxy(ThreadServer):
    """Passes requests on to where they are meant for.

    Attributes:
        hosts: whom it was asked for, with the password.
    """

    def __init__(self, host: str, on_request: Callable[[], None]) -> None:
        super().__init__(host)
        self.hosts: set[str] = set()
        self._on_request = on_request
        self._expected = b"basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).lower()

    @property
    def url(self) -> str:
        """As the proxy variables want it."""
        return f"http://{USER}:{PASSWORD}@{self.host}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        request, *fields = head.rstrip().split(b"\r\n")
        method, target, _ = request.decode("latin-1").split(" ")
        if f"proxy-authorization: {self._expected.decode()}".encode() not in [f.lower() for f in fields]:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        self._on_request()
        if method == "CONNECT":
            await self._tunnel(target, reader, writer)
        else:
            await self._forward(method, target, fields, reader, writer)

    async def _tunnel(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = target.rpartition(":")
        self.hosts.add(host)
        upstream = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await join_streams((reader, writer), upstream)

    async def _forward(
        self,
        method: str,
        target: str,
        fields: list[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """One request to a connection, which keeps this simple."""
        url = urlsplit(target)
        assert url.hostname is not None
        self.hosts.add(url.hostname)
        upstream = await asyncio.open_connection(url.hostname, url.port or 80)
        path = f"{url.path}?{url.query}" if url.query else url.path
        kept = [f for f in fields if not f.lower().startswith((b"proxy-", b"connection:"))]
        head = [f"{method} {path} HTTP/1.1".encode(), *kept, b"Connection: close", b"", b""]
        upstream[1].write(b"\r\n".join(head))
        await join_streams((reader, writer), upstream)
