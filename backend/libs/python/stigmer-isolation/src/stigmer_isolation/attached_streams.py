"""The three streams of a command that somebody talks with while it runs. Starts and ends nothing itself."""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

StreamName: TypeAlias = Literal["stdout", "stderr"]

MAX_UNREAD_BYTES: Final = 1 << 20
"""So much of its output may wait to be read, before the process waits instead."""
KEPT_STDERR_BYTES: Final = 8 * 1024
"""The end of what it wrote to stderr, for whoever asks why it died."""


class AttachedStreams:
    """Belongs to the event loop it is made in. The launcher that is given it attaches what it starts."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._input: int | None = None
        self._writing = asyncio.Lock()
        self._waiting: asyncio.Future[None] | None = None
        self._chunks: deque[bytes] = deque()
        self._unread = 0
        self._has_ended = self._is_discarding = self._is_paused = False
        self._came = asyncio.Event()
        self._begun = asyncio.Event()
        self._stderr = bytearray()
        self._pause: Callable[[bool], None] | None = None
        self._ask_to_end: Callable[[], None] | None = None

    # --- for whoever talks with the process --------------------------------------------------------

    @property
    def stderr(self) -> str:
        """The end of what it wrote to stderr so far."""
        return bytes(self._stderr).decode("utf-8", errors="replace")

    async def read(self) -> bytes:
        """The next piece of its output; empty at the end."""
        while not self._chunks:
            if self._has_ended:
                return b""
            self._came.clear()
            await self._came.wait()
        chunk = self._chunks.popleft()
        self._unread -= len(chunk)
        if self._is_paused and self._unread <= MAX_UNREAD_BYTES // 2 and self._pause is not None:
            self._is_paused = False
            self._pause(False)
        return chunk

    async def write(self, data: bytes) -> None:
        """Give it input, as fast as it takes it.

        Raises:
            BrokenPipeError: it has closed its input, or has ended.
        """
        await self._begun.wait()
        async with self._writing:
            view = memoryview(data)
            while view:
                if self._input is None:
                    raise BrokenPipeError("the process takes no more input")
                try:
                    view = view[os.write(self._input, view) :]
                except BlockingIOError:
                    await self._writable(self._input)

    def close_input(self) -> None:
        """Let it find the end of its input."""
        descriptor, self._input = self._input, None
        if descriptor is not None:
            self._loop.remove_writer(descriptor)
            os.close(descriptor)
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(None)

    def ask_to_end(self) -> None:
        """Send SIGTERM to all of its processes."""
        if self._ask_to_end is not None:
            self._ask_to_end()

    # --- for who starts it -------------------------------------------------------------------------

    def take_input(self, descriptor: int) -> None:
        """Take over the writing end of its stdin."""
        self.close_input()
        os.set_blocking(descriptor, False)
        self._input = descriptor

    def begin(self, pause: Callable[[bool], None], ask_to_end: Callable[[], None]) -> None:
        """It is being started; `pause` stops and continues the reading of its stdout."""
        self._pause, self._ask_to_end, self._has_ended = pause, ask_to_end, False
        self._begun.set()

    def feed(self, stream: StreamName, chunk: bytes) -> None:
        """Take a piece of its output; an empty one is the end."""
        if stream == "stderr":
            self._stderr += chunk
            del self._stderr[:-KEPT_STDERR_BYTES]
            return
        if not chunk:
            self._has_ended = True
        elif not self._is_discarding:
            self._chunks.append(chunk)
            self._unread += len(chunk)
            if self._unread > MAX_UNREAD_BYTES and not self._is_paused and self._pause is not None:
                self._is_paused = True
                self._pause(True)
        self._came.set()

    def discard(self) -> None:
        """It has ended, or is to: what it still writes beyond what is there is not kept."""
        if self._is_paused and self._pause is not None:
            self._is_paused = False
            self._is_discarding = True
            self._pause(False)
        self.close_input()

    def end(self) -> None:
        """Nothing comes any more, whatever was still open. Can be called again."""
        self._has_ended = True
        self._pause = self._ask_to_end = None
        self.close_input()
        self._begun.set()
        self._came.set()

    async def _writable(self, descriptor: int) -> None:
        """Wait until it takes more, or its input is closed."""
        waiting = self._waiting = self._loop.create_future()
        self._loop.add_writer(descriptor, lambda: waiting.done() or waiting.set_result(None))
        try:
            await waiting
        finally:
            if self._input == descriptor:
                self._loop.remove_writer(descriptor)
