"""How far the clocks of runners and of Temporal are from the server's, as legs show it. Kept in memory."""

from collections import OrderedDict
from datetime import UTC, datetime
from typing import Final

from stigmer_contract.api import ClockReading, StartLeg

MAX_RUNNERS: Final = 50
"""Remembered are those whose legs are the newest."""


class ClockReadings:
    """The newest reading of each clock."""

    def __init__(self) -> None:
        self._runners: OrderedDict[str, float] = OrderedDict()
        self._temporal: float | None = None

    def note(self, request: StartLeg) -> None:
        """Compare the clocks of a leg that begins."""
        if request.sent_at is None:
            return
        ahead = (request.sent_at - datetime.now(UTC)).total_seconds()
        self._runners[request.runner] = ahead
        self._runners.move_to_end(request.runner)
        if len(self._runners) > MAX_RUNNERS:
            self._runners.popitem(last=False)
        if request.ahead_of_temporal_seconds is not None:
            self._temporal = ahead - request.ahead_of_temporal_seconds

    def list(self) -> list[ClockReading]:
        """All that is known; empty before the first leg."""
        temporal = [] if self._temporal is None else [("Temporal", self._temporal)]
        runners = [(f"runner {name}", ahead) for name, ahead in self._runners.items()]
        return [ClockReading(of=name, ahead_seconds=round(ahead, 3)) for name, ahead in (*temporal, *runners)]
