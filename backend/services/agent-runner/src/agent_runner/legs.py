"""The legs of this process: each is begun for an activity of Temporal's, and outlives its loss for a while.

Where Temporal stood still, or the machine was suspended, it writes the activity off and starts another one;
the leg goes on meanwhile, and the next activity in this process adopts it. So nothing that a healthy runner
has in hand is lost or done twice. Whether a newer attempt has the execution, the server is asked each second.
"""

import asyncio
import base64
import contextlib
import logging
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel

from agent_runner.errors import AttemptSuperseded, ServerRefused, stack_of
from agent_runner.leg_parts import RUNNER_VERSION, LegParts, StopReason, defect
from agent_runner.loop_marker import hold_loop_for
from agent_runner.server_client import LegClient
from stigmer_contract.api import LegGrant, StartLeg
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import LOG_FORMAT, LegEnded, LegEndReason
from stigmer_contract.temporal import LegOutcome, LegResult

if TYPE_CHECKING:
    from agent_runner.leg import Leg

logger = logging.getLogger(__name__)

ORPHAN_SECONDS: Final = 30.0
"""So long a leg without an activity goes on; then it finishes the step in hand, and hands back."""
LOOK_SECONDS: Final = 1.0
"""How often the server is told that such a leg goes on; it believes that for some seconds."""
LOOK_TIMEOUT_SECONDS: Final = 3.0
HAND_BACK_SECONDS: Final = 10.0
"""So long the end of the process waits for a server that is away to hear that legs are handed back."""


@dataclass(frozen=True)
class ActivityAttempt:
    """What Temporal calls this try at a leg."""

    key: str
    """Of this attempt of the activity, and no other."""
    task_token: bytes
    ahead_of_temporal_seconds: float | None = None
    """How far this machine's clock was ahead of Temporal's at the start."""

    @property
    def token_text(self) -> str:
        """The task token as the server keeps it."""
        return base64.b64encode(self.task_token).decode()


class _HeldLeg:
    """A leg in hand, and the activity that stands for it at Temporal."""

    def __init__(self, activity: ActivityAttempt) -> None:
        self.work: asyncio.Task[LegResult]
        self.activity: ActivityAttempt | None = activity
        """None: Temporal has lost it, and no other one has come yet."""
        self.lost_at = 0.0
        """When that was, by the loop's clock."""
        self.leg: Leg | None = None
        """None: the server has not granted it yet."""
        self.client: LegClient
        self.holding: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def attach(self, activity: ActivityAttempt | None) -> None:
        """Let another activity stand for the leg; who waits for the one before is told."""
        self.activity = activity
        self.lost_at = asyncio.get_running_loop().time()
        self._changed.set()
        self._changed = asyncio.Event()

    async def result_for(self, activity: ActivityAttempt) -> LegResult:
        """How the leg ended; superseded where another activity stands for it before that."""
        while not self.work.done() and self.activity is activity:
            changed = asyncio.create_task(self._changed.wait())
            try:
                await asyncio.wait({self.work, changed}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
        if self.activity is not activity:
            return LegResult(outcome=LegOutcome.SUPERSEDED)
        return self.work.result()


def load_leg() -> "type[Leg]":
    """Load what works in a leg, of which a process that waits for its first one has no need.

    It is a second of the processor's time, and of memory 60 of 95 MB (2026-11).
    """
    from agent_runner.leg import Leg

    return Leg


class LegRunner:
    """The legs of a process."""

    def __init__(self, parts: LegParts, *, identity: str) -> None:
        """`identity` names the process to Temporal and in the log."""
        self._parts = parts
        self._identity = identity
        self._held: dict[str, _HeldLeg] = {}
        self._draining = False
        self._idle_since: float | None = None
        """When the last leg ended, by the loop's clock; None: there was none."""

    @property
    def idle_seconds(self) -> float | None:
        """How long no leg has been in hand; None: one is, or there was none."""
        if self._held or self._idle_since is None:
            return None
        return asyncio.get_running_loop().time() - self._idle_since

    @property
    def active_legs(self) -> int:
        """How many legs are in hand."""
        return len(self._held)

    @property
    def is_draining(self) -> bool:
        """Whether the process is about to end."""
        return self._draining

    def drain(self) -> None:
        """Let every leg finish its step in hand and hand back; legs to come do so at once."""
        self._draining = True
        for held in self._held.values():
            if held.leg is not None:
                held.leg.drain()
                self._keep_hold(held)

    async def finish(self, seconds: float, hurry: asyncio.Event) -> None:
        """Wait for the legs to end; after so long, or when told to hurry, drop what they have in hand."""
        works = {held.work for held in self._held.values()}
        if not works:
            return
        hurried = asyncio.create_task(hurry.wait())
        ended = asyncio.create_task(asyncio.wait(works))
        timeout = None if seconds == math.inf else max(0.0, seconds)
        await asyncio.wait({hurried, ended}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        for execution_id in list(self._held):
            self.stop(execution_id, StopReason.HAND_BACK)
        await asyncio.wait({ended}, timeout=HAND_BACK_SECONDS)
        for work in works:
            work.cancel()  # the server cannot be told; it hears that this process has ended
        await ended

    def stop(self, execution_id: str, reason: StopReason) -> None:
        """Stop the execution's leg in this process, if there is one."""
        held = self._held.get(execution_id)
        if held is None:
            return
        if held.leg is None:
            held.work.cancel()  # it has not been granted yet, so there is nothing to write down
        else:
            held.leg.stop(reason)

    def let_go(self, execution_id: str, activity: ActivityAttempt) -> None:
        """Go on without this activity, which Temporal has lost."""
        held = self._held.get(execution_id)
        if held is None or held.activity is not activity:
            return
        if held.leg is None:
            held.work.cancel()
            return
        logger.info("Temporal lost the activity; the leg goes on", extra={"execution_id": execution_id})
        held.attach(None)
        self._keep_hold(held)

    async def run(self, execution_id: str, activity: ActivityAttempt) -> LegResult:
        """Run a leg of the execution to its end, or go on with the one that is in hand."""
        while True:
            held = self._held.get(execution_id)
            if held is None or held.work.done():
                if self._draining:
                    return LegResult(outcome=LegOutcome.DRAINED)
                held = self._begin(execution_id, activity)
            elif not await self._adopt(execution_id, held, activity):
                await asyncio.wait({held.work})  # fenced off, so it ends now
                continue
            return await held.result_for(activity)

    async def _adopt(self, execution_id: str, held: _HeldLeg, activity: ActivityAttempt) -> bool:
        """Let the activity stand for a leg that is in hand; False where a newer attempt has the execution."""
        held.attach(activity)
        if held.leg is None:
            return True
        logger.info("the leg goes on under another activity", extra={"execution_id": execution_id})
        return await _tell_token(held, activity)

    def _begin(self, execution_id: str, activity: ActivityAttempt) -> _HeldLeg:
        held = _HeldLeg(activity)
        held.work = asyncio.create_task(self._run(execution_id, activity, held), name=f"leg {execution_id}")
        self._held[execution_id] = held

        def forget(work: "asyncio.Task[LegResult]") -> None:
            if self._held.get(execution_id) is held:
                del self._held[execution_id]
                self._idle_since = asyncio.get_running_loop().time()
            if not work.cancelled():
                work.exception()  # it may be that nobody waits for it any more

        held.work.add_done_callback(forget)
        return held

    async def _run(self, execution_id: str, activity: ActivityAttempt, held: _HeldLeg) -> LegResult:
        hold_loop_for(execution_id)
        # Before the server grants it, so that nothing is in hand that could not be stopped meanwhile.
        leg_class = await asyncio.to_thread(load_leg)
        try:
            grant = await self._parts.client.start_leg(
                execution_id,
                StartLeg(
                    runner=self._identity,
                    runner_version=RUNNER_VERSION,
                    log_format=LOG_FORMAT,
                    key=activity.key,
                    task_token=activity.token_text,
                    sent_at=datetime.now(UTC),
                    ahead_of_temporal_seconds=activity.ahead_of_temporal_seconds,
                ),
            )
        except ServerRefused as refusal:
            # One that this server does not know may be another's, whose runner gets it when it is given back.
            if refusal.code is ErrorCode.EXECUTION_ENDED:
                return LegResult(outcome=LegOutcome.ENDED)
            raise
        try:
            return await self._run_granted(leg_class, grant, activity, held)
        except Exception as error:
            # A defect says so in the log; only who is silent counts as dead.
            await self._fail(grant, error)
            return LegResult(outcome=LegOutcome.ENDED)

    async def _run_granted(
        self, leg_class: "type[Leg]", grant: LegGrant, activity: ActivityAttempt, held: _HeldLeg
    ) -> LegResult:
        leg = leg_class(grant, self._parts)
        held.client = LegClient(self._parts.client, grant)
        held.leg = leg
        if held.activity is not None and held.activity is not activity:
            await _tell_token(held, held.activity)
        if self._draining:
            leg.drain()
            self._keep_hold(held)
        if grant.execution.cancel_requested:
            leg.stop(StopReason.CANCEL)
        elif grant.execution.paused_at is not None:
            leg.pause()
        try:
            return await leg.run()
        finally:
            if held.holding is not None:
                held.holding.cancel()

    def _keep_hold(self, held: _HeldLeg) -> None:
        if held.holding is None or held.holding.done():
            held.holding = asyncio.create_task(self._hold(held))

    async def _hold(self, held: _HeldLeg) -> None:
        """Tell the server that the leg goes on, while no activity of a living worker says so."""
        assert held.leg is not None
        while not held.work.done() and (self._draining or held.activity is None):
            try:
                async with asyncio.timeout(LOOK_TIMEOUT_SECONDS):
                    answer = await held.client.hold(None)
            except AttemptSuperseded:
                held.leg.stop(StopReason.FALL_SILENT)
            except (TimeoutError, ServerRefused) as error:
                logger.warning("the server was not told that a leg goes on: %r", error)
            else:
                if answer.cancel_requested:
                    held.leg.stop(StopReason.CANCEL)
                if answer.is_paused:
                    held.leg.pause()
                if answer.is_wanted and held.activity is None:
                    held.leg.drain()
            if held.activity is None and asyncio.get_running_loop().time() - held.lost_at > ORPHAN_SECONDS:
                held.leg.drain()
            await asyncio.wait({held.work}, timeout=LOOK_SECONDS)

    async def _fail(self, grant: LegGrant, error: Exception) -> None:
        """End an execution whose leg came to grief outside of its work."""
        execution_id = grant.execution.execution_id
        logger.error(
            "the leg failed unexpectedly:\n%s", stack_of(error), extra={"execution_id": execution_id}
        )
        ended: list[BaseModel] = [
            LegEnded(attempt=grant.attempt, reason=LegEndReason.FAILED),
            defect(error, grant.events[-1].sequence if grant.events else 0),
        ]
        client = LegClient(self._parts.client, grant)
        with contextlib.suppress(AttemptSuperseded):
            await client.append([event.model_dump_json().encode() for event in ended])


async def _tell_token(held: _HeldLeg, activity: ActivityAttempt) -> bool:
    """Tell the server which activity stands for the leg; False where a newer attempt has the execution."""
    assert held.leg is not None
    try:
        answer = await held.client.hold(activity.token_text)
    except AttemptSuperseded:
        held.leg.stop(StopReason.FALL_SILENT)
        return False
    except ServerRefused as refusal:  # of an older server
        logger.warning("the server was not told of the leg's new activity: %s", refusal)
        return True
    if answer.cancel_requested:
        held.leg.stop(StopReason.CANCEL)
    return True
