"""Lets steps begin until a leg is to hand back, and tells when the last one in hand has ended."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class StepGate:
    """One for a leg. Told to drain, the steps in hand end and are written down; no new one begins."""

    def __init__(self) -> None:
        """Open, with no step in hand."""
        self._open = asyncio.Event()
        self._open.set()
        self._drained = asyncio.Event()
        self._in_hand = 0

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
        try:
            yield
        finally:
            self._in_hand -= 1
            self._note_drained()

    def close(self) -> None:
        """Let no further step begin."""
        self._open.clear()
        self._note_drained()

    async def drained(self) -> None:
        """Wait until the gate is closed and no step is in hand."""
        await self._drained.wait()

    def _note_drained(self) -> None:
        if not self._open.is_set() and not self._in_hand:
            self._drained.set()
