"""A TCP proxy that cuts its connections at random places, as bad networks do."""

import random
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType


class CuttingProxy:
    """Forwards to a port on this machine. Each answer is cut after a random number of bytes.

    Cuts until `cuts_left` is used up; then it forwards everything.
    """

    def __init__(self, target_port: int, *, cuts: int, longest: int, seed: int) -> None:
        self._target_port = target_port
        self._random = random.Random(seed)
        self._longest = longest
        self.cuts_left = cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._is_closed = False

    def __enter__(self) -> "CuttingProxy":
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=5)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target_port))
            remaining: int | None = None
            if self.cuts_left > 0:
                self.cuts_left -= 1
                remaining = self._random.randint(0, self._longest)
            self._start(self._forward, client, server, None)
            self._start(self._forward, server, client, remaining)

    def _forward(self, source: socket.socket, target: socket.socket, remaining: int | None) -> None:
        """Copies bytes until the source ends or `remaining` of them have gone; then closes both ways."""
        with source, target:
            with suppress(OSError):  # the other direction has closed both
                while remaining is None or remaining > 0:
                    chunk = source.recv(min(4096, remaining or 4096))
                    if not chunk:
                        break
                    target.sendall(chunk)
                    remaining = None if remaining is None else remaining - len(chunk)
            for one in (source, target):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
