"""What a toolset may tell of the call that it carries out, besides its result."""

import asyncio
import contextlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


@dataclass
class CallInHand:
    """One call, while it is carried out."""

    show: Callable[[str], None]
    """Shows whoever watches how it goes on."""
    is_outcome_unknown: bool = False
    """Whether nobody knows what became of it, though the call has returned."""
    clock: asyncio.Timeout | None = None
    """What stops it when it takes too long, if anything does."""

    @contextmanager
    def resting(self) -> Generator[None]:
        """The time that passes meanwhile is not the call's own: a person is asked."""
        clock, loop = self.clock, asyncio.get_running_loop()
        until = None if clock is None else clock.when()
        if clock is None or until is None:
            yield
            return
        left = until - loop.time()
        clock.reschedule(None)
        try:
            yield
        finally:
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                clock.reschedule(loop.time() + left)


call_in_hand: Final[ContextVar[CallInHand | None]] = ContextVar("call_in_hand", default=None)
"""That of the present task."""
