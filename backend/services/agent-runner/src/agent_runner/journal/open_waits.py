"""What the steps of a leg wait for that may take long: with nothing else in hand, the leg ends `waiting`."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from agent_runner.journal.gate import StepGate
from agent_runner.journal.kinds import StepKey
from stigmer_contract.waits import WaitReason


class ServerClock:
    """The server's time, as far as a leg knows it: that of its start, and what went by here since."""

    def __init__(self, leg_started_at: datetime) -> None:
        """Make it when the leg is granted."""
        self._leg_started_at = leg_started_at
        self._granted = time.monotonic()

    def now(self) -> datetime:
        """Aware UTC."""
        return self._leg_started_at + timedelta(seconds=time.monotonic() - self._granted)

    async def sleep_until(self, moment: datetime) -> None:
        """Return when that moment has come."""
        await asyncio.sleep((moment - self.now()).total_seconds())


class OpenWaits:
    """Those of one leg."""

    def __init__(self, gate: StepGate, clock: ServerClock) -> None:
        self.clock = clock
        self._gate = gate
        self._waiting: dict[StepKey, Sequence[WaitReason]] = {}

    @property
    def reasons(self) -> list[WaitReason]:
        """What the waits that have not ended wait for."""
        return [reason for reasons in self._waiting.values() for reason in reasons]

    async def until_over(self, place: StepKey, reasons: Sequence[WaitReason], until: datetime | None) -> None:
        """Until the time has come. What else ends the wait ends the leg's, and is found by the next leg."""
        self._waiting[place] = reasons
        try:
            with self._gate.waiting():
                if until is None:
                    await asyncio.Event().wait()  # for ever: the leg ends meanwhile
                else:
                    await self.clock.sleep_until(until)
        finally:
            del self._waiting[place]
