"""The network between two programs, as a TCP proxy that can cut, delay and swallow what passes.

All links live in one event loop in a thread of its own; their faults are set from other threads.
"""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Final, Self

LOOPBACK: Final = "127.0.0.1"
CALL_TIMEOUT_SECONDS: Final = 10.0
_CHUNK_BYTES: Final = 64 * 1024


class Link:
    """One pair's connections. Made by `Network.link`.

    Attributes:
        name: who talks to whom, such as `runner-1>temporal`.
        port: where the proxy listens on loopback.
    """

    def __init__(self, name: str, targets: Sequence[int], loop: asyncio.AbstractEventLoop) -> None:
        """The `targets` (ports) take turns; a connection that one does not take goes to the next."""
        self.name = name
        self.port = 0
        self._targets = targets
        self._turns = itertools.count()
        self._loop = loop
        self._delay_seconds = 0.0
        self._is_swallowing = False
        self._is_refusing = False
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    # --- faults, from any thread ----------------------------------------------------------------

    def cut(self) -> None:
        """Break every connection there is."""
        self._loop.call_soon_threadsafe(self._cut)

    def refuse(self, refuses: bool) -> None:
        """Whether new connections are broken at once."""
        self._is_refusing = refuses

    def delay(self, seconds: float) -> None:
        """Hold back each piece that passes for so long; 0: no longer."""
        self._delay_seconds = seconds

    def swallow(self, swallows: bool) -> None:
        """Whether connections become half-open: nothing passes, and nobody is told.

        Those that were it once stay so until their ends give them up; later ones are whole again.
        """

        def begin() -> None:
            self._is_swallowing = swallows
            for connection in self._connections if swallows else ():
                connection.is_swallowed = True

        self._loop.call_soon_threadsafe(begin)

    def heal(self) -> None:
        """Have no fault any more; half-open connections end."""
        self.refuse(False)
        self.delay(0.0)
        self.swallow(False)
        self._loop.call_soon_threadsafe(self._cut_swallowed)

    # --- in the loop ----------------------------------------------------------------------------

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0, backlog=256)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End everything."""
        if self._server is not None:
            self._server.close()
        self._cut()

    def _cut(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    def _cut_swallowed(self) -> None:
        for connection in [one for one in self._connections if one.is_swallowed]:
            connection.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_refusing:
            writer.transport.abort()
            return
        try:
            other = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, other[1], is_swallowed=self._is_swallowing)
        self._connections.add(connection)
        try:
            await asyncio.gather(
                self._copy(connection, reader, other[1]), self._copy(connection, other[0], writer)
            )
        except OSError:
            pass  # one of the ends broke it; the other one learns of that now
        finally:
            self._connections.discard(connection)
            connection.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        first = next(self._turns)
        problem: OSError = ConnectionRefusedError("no targets")
        for number in range(len(self._targets)):
            port = self._targets[(first + number) % len(self._targets)]
            try:
                return await asyncio.open_connection(LOOPBACK, port)
            except OSError as error:
                problem = error
        raise problem

    async def _copy(
        self, connection: "_Connection", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while piece := await reader.read(_CHUNK_BYTES):
            if self._delay_seconds:
                await asyncio.sleep(self._delay_seconds)
            if connection.is_swallowed:
                continue
            writer.write(piece)
            await writer.drain()
        if connection.is_swallowed:
            await connection.is_over.wait()  # whoever is at the other end is not told
        elif writer.can_write_eof():
            writer.write_eof()


class _Connection:
    """Both halves of one connection through a link."""

    def __init__(
        self, client: asyncio.StreamWriter, server: asyncio.StreamWriter, *, is_swallowed: bool
    ) -> None:
        self._writers = (client, server)
        self.is_swallowed = is_swallowed
        self.is_over = asyncio.Event()

    def abort(self) -> None:
        self.is_over.set()
        for writer in self._writers:
            writer.transport.abort()


class Network:
    """All links. A context manager."""

    def __init__(self) -> None:
        """Starts nothing yet."""
        self.links: dict[str, Link] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)

    def link(self, name: str, *targets: int) -> Link:
        """A new link to the ports of who serves it."""
        link = Link(name, targets, self._loop)
        self._call(link.open)
        self.links[name] = link
        return link

    def heal(self) -> None:
        """Have no fault anywhere."""
        for link in self.links.values():
            link.heal()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for link in self.links.values():
            self._call(link.close)
        self._call(self._end_tasks)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT_SECONDS)
        self._loop.close()

    async def _end_tasks(self) -> None:
        tasks = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CALL_TIMEOUT_SECONDS / 2):
                await asyncio.gather(*tasks, return_exceptions=True)

    def _call(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run_coroutine_threadsafe(work(), self._loop).result(CALL_TIMEOUT_SECONDS)
