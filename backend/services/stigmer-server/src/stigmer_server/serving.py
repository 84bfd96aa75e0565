"""Serves HTTP on a socket until the process is told to stop. Reads no environment."""

import asyncio
import logging
import socket
from types import FrameType
from typing import Final

import uvicorn
import uvloop

from stigmer_server.app import VERSION, StigmerServer
from stigmer_server.settings import Settings

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
        DatabaseUnusable: the database or the blobs' directory cannot be used.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, listener))


async def _serve(settings: Settings, listener: socket.socket) -> None:
    server = StigmerServer(settings)
    config = uvicorn.Config(
        server.app,
        lifespan="off",
        access_log=False,
        proxy_headers=False,
        ws="none",
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_SECONDS,
    )
    async with server.running():
        host, port = listener.getsockname()[:2]
        logger.info("stigmer-server %s listens on %s port %d", VERSION, host, port)
        await _HttpServer(config, server).serve([listener])
    logger.info("stopped")
