"""TLS in front of a plain server on this machine, with a certificate that a private authority signed."""

import asyncio
import contextlib
import ssl
import threading
from types import TracebackType
from typing import Final, Self

import trustme

WAIT_SECONDS: Final = 10.0
CHUNK_BYTES: Final = 1 << 16


class TlsFront:
    """Decrypts and forwards to a port on this machine while it is entered; from a thread of its own."""

    def __init__(self, target_port: int, authority: trustme.CA) -> None:
        self.port = 0
        self._target_port = target_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.set_alpn_protocols(["h2", "http/1.1"])  # gRPC insists on the first
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        certificate.configure_cert(self._context)  # pyright: ignore[reportUnknownMemberType]  # or pyOpenSSL's
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls-front", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(WAIT_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(WAIT_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS)
        self._loop.close()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            try:
                await asyncio.gather(_copy(reader, target_writer), _copy(target_reader, writer))
            finally:
                target_writer.close()
        self._connections.discard(task)
        writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until either side ends, which ends the other."""
    while piece := await reader.read(CHUNK_BYTES):
        writer.write(piece)
        await writer.drain()
    writer.close()
