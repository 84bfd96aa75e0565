"""A TCP proxy whose connections can become half-open: they take everything, and nothing comes out of them."""

import asyncio
import contextlib
import threading
from types import TracebackType
from typing import Any, Final, Self

_LOOPBACK: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 64 * 1024
_CALL_SECONDS: Final = 60.0


class SwallowingProxy:
    """Forwards to a port on this machine, in a thread of its own. A context manager.

    Attributes:
        port: where it listens.
        connections: how many there were so far.
        swallowed: how many pieces came on half-open ones.
    """

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.connections = 0
        self.swallowed = 0
        self._target_port = target_port
        self._open: set[_Flow] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_SECONDS)
        self._loop.close()

    def swallow(self) -> int:
        """Make all connections of now half-open, for good; how many they are."""

        async def begin() -> int:
            for flow in self._open:
                flow.is_swallowed = True
            return len(self._open)

        return self._call(begin())

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_SECONDS)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, _LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        flow = _Flow()
        self._open.add(flow)
        with contextlib.closing(writer), contextlib.suppress(OSError):
            other_reader, other_writer = await asyncio.open_connection(_LOOPBACK, self._target_port)
            try:
                there = asyncio.create_task(self._copy(flow, reader, other_writer))
                back = asyncio.create_task(self._copy(flow, other_reader, writer))
                # A half-open one lasts until whoever opened it gives it up.
                await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
                if flow.is_swallowed:
                    await there
                back.cancel()
                there.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
            finally:
                other_writer.close()
                self._open.discard(flow)

    async def _copy(self, flow: "_Flow", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_CHUNK_BYTES):
                if flow.is_swallowed:
                    self.swallowed += 1
                    continue
                writer.write(piece)
                await writer.drain()


class _Flow:
    """One connection, both ways."""

    is_swallowed = False
