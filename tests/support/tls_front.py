"""TLS in front of a plain server on this machine, with a certificate that a private authority signed."""

import asyncio
import ssl

import trustme

from thread_server import ThreadServer, join_streams


class TlsFront(ThreadServer):
    """Decrypts and forwards to a port on this machine's loopback; listens there, or on `host`."""

    def __init__(self, target_port: int, authority: trustme.CA, host: str = "127.0.0.1") -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["h2", "http/1.1"])  # gRPC insists on the first
        certificate = authority.issue_cert(host, "localhost")
        certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # or pyOpenSSL's
        super().__init__(host, tls=context)
        self._target_port = target_port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = await asyncio.open_connection("127.0.0.1", self._target_port)
        await join_streams((reader, writer), target)
