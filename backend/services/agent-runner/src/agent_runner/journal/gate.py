"""Lets steps begin until a leg is to hand back, and tells when the last one in hand has ended or waits."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

SETTLE_SECONDS: Final = 0.05
"""Between two steps of an agent nothing is in hand for some milliseconds; only when that lasts for longer do
nothing but waits keep the leg."""


class StepGate:
    """One for a leg. Told to drain, the steps in hand end and are written down; no new one begins."""

    def __init__(self) -> None:
        """Open, with no step in hand."""
        self._open = asyncio.Event()
        self._open.set()
        self._drained = asyncio.Event()
        self._in_hand = 0
        self._begun = 0
        self._waiting = 0
        self._idle = asyncio.Event()

    @property
    def steps_in_hand(self) -> int:
        """How many have begun and not ended."""
        return self._in_hand

    @asynccontextmanager
    async def step(self, *, inner: bool = False) -> AsyncGenerator[None]:
        """Hold a step in hand. Waits for ever once the gate is closed: the leg is then cancelled.

        An `inner` step is a part of one that is in hand, which could not end if this one never began.
        """
        if not inner:
            await self._open.wait()
        self._in_hand += 1
        self._begun += 1
        self._note()
        try:
            yield
        finally:
            self._in_hand -= 1
            self._note()

    @contextmanager
    def waiting(self) -> Generator[None]:
        """The step in hand waits for something that may take for ever: it does not keep the leg."""
        self._in_hand -= 1
        self._waiting += 1
        self._note()
        try:
            yield
        finally:
            self._in_hand += 1
            self._waiting -= 1
            self._note()

    async def idle(self) -> None:
        """Wait until only steps that wait are left."""
        while True:
            await self._idle.wait()
            begun = self._begun
            await asyncio.sleep(SETTLE_SECONDS)
            if self.is_idle and self._begun == begun:
                return

    @property
    def is_idle(self) -> bool:
        """Whether there are steps that wait and no others."""
        return self._waiting > 0 and not self._in_hand

    @property
    def is_closed(self) -> bool:
        """Whether no further step begins."""
        return not self._open.is_set()

    def close(self) -> None:
        """Let no further step begin."""
        self._open.clear()
        self._note()

    async def drained(self) -> None:
        """Wait until the gate is closed and no step is in hand."""
        await self._drained.wait()

    def _note(self) -> None:
        if self.is_idle:
            self._idle.set()
        else:
            self._idle.clear()
        if not self._open.is_set() and not self._in_hand:
            self._drained.set()
