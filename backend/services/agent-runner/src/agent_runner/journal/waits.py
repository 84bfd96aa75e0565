"""The step of a wait: what ended it, as the log says, else the leg may end until it is ended.

A wait holds nothing but a place in the agent's run. When nothing else is in hand, the leg ends `waiting` with
the reasons of all waits; the next one finds what came in the log it is granted. Deadlines are the server's
time, counted from the event that began the call.
"""

from datetime import datetime, timedelta

from pydantic import JsonValue

from agent_runner.journal.kinds import TOOL, WAIT, StepKey, call_key
from agent_runner.journal.recorded import MESSAGE_SEQUENCE, message_in
from agent_runner.journal.scopes import running_call
from agent_runner.journal.steps import StepJournal
from agent_runner.toolsets import Waited
from stigmer_contract.events import StepFinished
from stigmer_contract.waits import WaitKind, WaitReason


class WaitSteps:
    """The waits of one leg; a `Waiter` for the tools."""

    def __init__(self, journal: StepJournal) -> None:
        self._journal = journal
        self._clock = journal.parts.waits.clock

    async def wait(self, *, message: bool, seconds: float | None) -> Waited:
        """Return when a message or the time has come, whichever is first."""
        call = running_call.get()
        assert call is not None, "waits are steps of tool calls"
        recorded = self._journal.parts.recorded
        of_call = call_key(call.scope.turn, call.call_id)
        place = call.scope.next_key(WAIT, of_call)
        known = recorded.results.get(place)
        if known is not None:
            return await self._waited(message_in(known))
        # Without the event's time this leg is the first: the event is about to be written, or just was.
        began_at = recorded.started_at.get(StepKey(place.agent_path, TOOL, of_call, 1), self._clock.now())
        until = None if seconds is None else began_at + timedelta(seconds=seconds)
        sequence = recorded.next_message() if message else None
        if sequence is None:
            reasons = _reasons(of_call, message=message, until=until)
            await self._journal.parts.waits.until_over(place, reasons, until)
        await self._finish(place, sequence, (self._clock.now() - began_at).total_seconds())
        return await self._waited(sequence)

    async def _finish(self, place: StepKey, sequence: int | None, seconds: float) -> None:
        result: JsonValue = None if sequence is None else {MESSAGE_SEQUENCE: sequence}
        event = StepFinished(
            agent_path=place.agent_path,
            kind=place.kind,
            key=place.key,
            nth=place.nth,
            result=await self._journal.parts.bodies.store_value(result),
            duration_seconds=round(max(0.0, seconds), 6),
        )
        # Of no use without the call's own end, which comes next.
        self._journal.write(event, more_follows=True)

    async def _waited(self, sequence: int | None) -> Waited:
        if sequence is None:
            return Waited(None)
        parts = self._journal.parts
        text = await parts.bodies.load_value(parts.recorded.messages[sequence].message)
        return Waited(str(text))


def _reasons(key: str, *, message: bool, until: datetime | None) -> list[WaitReason]:
    reasons = [WaitReason(kind=WaitKind.MESSAGE)] if message else []
    return reasons if until is None else [*reasons, WaitReason(kind=WaitKind.TIME, key=key, until=until)]
