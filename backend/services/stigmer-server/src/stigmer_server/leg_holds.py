"""Legs whose runners say that they still work on them, though Temporal may have lost the activity.

Such a runner is healthy, and finishes the step in hand: who else asks for the execution waits meanwhile, and
the runner is told that somebody does. Kept in memory: where it is forgotten, the newer attempt fences off the
older one, as ever.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

HOLD_SECONDS: Final = 4.0
"""A runner that says no more is dead or cut off, and the next one goes on. They say so each second."""


@dataclass(frozen=True, slots=True)
class _Hold:
    attempt: int
    until: float
    """By the monotonic clock."""


class LegHolds:
    """Who holds which execution's leg."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._holds: dict[str, _Hold] = {}
        self._wanted: dict[str, float] = {}
        """Executions for which another runner has asked, and until when that counts."""

    def hold(self, execution_id: str, attempt: int) -> bool:
        """Note that the attempt's runner works on; whether another one waits for the execution."""
        now = self._clock()
        self._wanted = {key: until for key, until in self._wanted.items() if until > now}
        self._holds = {key: hold for key, hold in self._holds.items() if hold.until > now}
        self._holds[execution_id] = _Hold(attempt, now + HOLD_SECONDS)
        return execution_id in self._wanted

    def is_held(self, execution_id: str, attempt: int) -> bool:
        """Whether the attempt's runner said lately that it works on."""
        hold = self._holds.get(execution_id)
        return hold is not None and hold.attempt == attempt and hold.until > self._clock()

    def want(self, execution_id: str) -> None:
        """Note that another runner asks for the execution."""
        self._wanted[execution_id] = self._clock() + HOLD_SECONDS
