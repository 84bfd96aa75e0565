"""Serves HTTP on a socket until the process is told to stop. Reads no environment."""

import asyncio
import logging
import socket
import ssl
from types import FrameType
from typing import Final

import uvicorn

from stigmer_contract.log_lines import take_lines_of_temporal
from stigmer_server.app import VERSION, StigmerServer
from stigmer_server.errors import SettingsError
from stigmer_server.http_protocol import BoundedHttpProtocol
from stigmer_server.settings import Settings, TlsFiles
from stigmer_server.waiting_page import waiting_page

try:
    from uvloop import new_event_loop
except ModuleNotFoundError:  # without the extra `fast`
    from asyncio import new_event_loop

logger = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT_SECONDS: Final = 3
"""For requests in hand; streams end at once. With the rest the process is gone within 5 s."""


class _HttpServer(uvicorn.Server):
    """Uvicorn, which would wait for streams that never end by themselves."""

    def __init__(self, config: uvicorn.Config, server: StigmerServer) -> None:
        super().__init__(config)
        self._server = server

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Uvicorn's own way ends the process by the signal, once more, when all is done.
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._server.end_streams()
        await super().shutdown(sockets)


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SettingsError: the certificate and key are not what they should be.
        DatabaseUnusable: the database or the blobs' directory cannot be used.
    """
    tls = None if settings.tls is None else _tls_context(settings.tls)
    if settings.allow_plaintext and tls is None:
        logger.warning("STIGMER_ALLOW_PLAINTEXT: whoever is on the network can read tokens and prompts")
    if settings.log_format == "json":
        take_lines_of_temporal()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(settings, listener, tls))


def _tls_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Asked for a password, OpenSSL would wait for somebody at the terminal.
        context.load_cert_chain(files.certificate, files.key, password=lambda: "")
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(
            "STIGMER_TLS_CERT_FILE", f"could not use {str(files.certificate)!r} with its key: {reason}"
        ) from error
    return context


async def _serve(settings: Settings, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
    server = StigmerServer(settings)
    config = uvicorn.Config(
        server.app,
        http=BoundedHttpProtocol,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        lifespan="off",
        access_log=False,
        proxy_headers=False,
        ws="none",
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_SECONDS,
    )
    async with server.running(lambda: waiting_page(listener, tls, VERSION, lambda: server.waits_because)):
        host, port = listener.getsockname()[:2]
        logger.info(
            "stigmer-server %s listens on %s port %d%s", VERSION, host, port, " with TLS" if tls else ""
        )
        await _HttpServer(config, server).serve([listener])
    logger.info("stopped")
