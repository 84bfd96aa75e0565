"""How often, and how many at once, calls of one caller are answered. In memory; knows no routes."""

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from stigmer_server.errors import RateLimited

BURST_SECONDS: Final = 2.0
"""So many seconds' worth of calls may come at once, after a pause."""
MAX_CALLERS: Final = 10_000
"""Strangers are told apart by their address; of more than this, the longest silent is forgotten."""


@dataclass(slots=True)
class _Caller:
    allowance: float
    seen_at: float
    open_calls: int = 0


class RateLimits:
    """A token bucket for each caller, and a bound on its calls in hand."""

    def __init__(self, per_second: float, at_once: int) -> None:
        """Zero means no limit."""
        self._per_second = per_second
        self._burst = per_second * BURST_SECONDS
        self._at_once = at_once
        self._callers: OrderedDict[str, _Caller] = OrderedDict()

    def enter(self, caller: str) -> None:
        """Count a call; `leave` must follow.

        Raises:
            RateLimited: there were too many; nothing was counted.
        """
        now = time.monotonic()
        known = self._callers.get(caller)
        if known is None:
            known = self._callers[caller] = _Caller(self._burst, now)
            if len(self._callers) > MAX_CALLERS:
                self._forget_one()
        if self._per_second:
            allowance = min(self._burst, known.allowance + (now - known.seen_at) * self._per_second)
            known.seen_at = now
            known.allowance = allowance
            if allowance < 1:
                wait = math.ceil((1 - allowance) / self._per_second)
                raise RateLimited(f"more than {self._per_second:g} calls a second", max(1, wait))
        if self._at_once and known.open_calls >= self._at_once:
            raise RateLimited(f"more than {self._at_once} calls at once", 1)
        known.allowance -= 1
        known.open_calls += 1

    def leave(self, caller: str) -> None:
        """The call has been answered."""
        known = self._callers.get(caller)
        if known is not None:
            known.open_calls -= 1

    def _forget_one(self) -> None:
        for caller, known in self._callers.items():
            if known.open_calls == 0:
                del self._callers[caller]
                return
