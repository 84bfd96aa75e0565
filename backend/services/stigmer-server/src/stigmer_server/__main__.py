"""The process: `python -m stigmer_server`. Reads the environment, listens, and ends in good order.

Exit codes: 0 after SIGTERM or SIGINT, 2 for a wrong environment, 3 where it cannot start.
"""

import asyncio
import errno
import logging
import os
import socket
import sys
from types import FrameType
from typing import Final

import uvicorn
import uvloop

from stigmer_server.app import VERSION, StigmerServer
from stigmer_server.errors import AddressTaken, StartFailed
from stigmer_server.log_format import configure_logging
from stigmer_server.settings import Settings, load_settings

logger = logging.getLogger("stigmer_server")

SHUTDOWN_TIMEOUT_SECONDS: Final = 3
"""For requests in hand; streams end at once. With the rest the process is gone within 5 s."""
BACKLOG: Final = 2048


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


def main() -> None:
    """Run the server until it is told to stop."""
    try:
        settings = load_settings(os.environ)
        configure_logging(settings.log_level, settings.log_format)
        os.umask(0o077)  # logs of executions are nobody else's business
        listener = _listen(settings.host, settings.port)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, listener))
    except StartFailed as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


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


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything else, so that a taken port is known at once.

    Raises:
        AddressTaken: the address cannot be listened on.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        problem = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        raise AddressTaken(host, port, problem) from error


if __name__ == "__main__":
    main()
