"""Asks a model until it answers, however many legs that takes: each failure goes into the log first.

What a failure means is `models`' business, when to ask again that of `patience`.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from pydantic import JsonValue

from agent_runner.errors import RunnerError
from agent_runner.journal.kinds import StepKey
from agent_runner.journal.patience import Failures, after_failure
from agent_runner.journal.steps import StepJournal
from agent_runner.models import ModelFault, classify_fault
from agent_runner.tracing import mark_failed_request
from stigmer_contract.events import ModelFailed
from stigmer_contract.waits import WaitKind, WaitReason

logger = logging.getLogger(__name__)

SHORT_REST: Final = timedelta(seconds=2)
"""A leg that finds so little of a wait left waits itself."""


class RequestTooLarge(Exception):
    """The provider refuses the request: with its answer it is more than the model's context window."""

    def __init__(self, fault: ModelFault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class PatientAsking:
    """The requests of one leg to one model."""

    def __init__(self, journal: StepJournal, model_reference: str) -> None:
        """`model_reference` is `provider:name`."""
        self._journal = journal
        self._model_reference = model_reference

    async def answer(
        self, key: StepKey, ask: Callable[[], Awaitable[JsonValue]], on_failure: Callable[[str, float], None]
    ) -> tuple[JsonValue, int]:
        """The answer, and how many requests failed before it.

        Args:
            key: of the step that the answer is the result of.
            ask: makes one request.
            on_failure: called with what failed and the seconds until the next request, before they pass.

        Raises:
            ExecutionFailure: the model cannot be had.
            RequestTooLarge: it cannot be asked that much.
        """
        parts = self._journal.parts
        recorded = parts.recorded.failed_requests.get(key)
        failures = Failures.of(recorded)
        if recorded is not None:
            await self._wait(key, failures, recorded.message)
        while True:
            try:
                return await ask(), failures.count
            except RunnerError:
                raise
            except Exception as error:
                fault = classify_fault(error)
                mark_failed_request(fault.code)
                if fault.overflows:
                    raise RequestTooLarge(fault) from error
                # The clock may be a little behind the moment that was waited for.
                now = parts.waits.clock.now()
                now = max(now, failures.next_try_at or now)
                failures = after_failure(failures, fault, now, parts.limits.model_unavailable)
            assert failures.since is not None
            assert failures.next_try_at is not None
            delay = (failures.next_try_at - now).total_seconds()
            logger.warning(
                "model request failed (%s); asking again in %.1f s",
                fault.code,
                delay,
                extra={"turn": key.key, "failures": failures.count},
            )
            self._journal.write(
                ModelFailed(
                    agent_path=key.agent_path,
                    turn=int(key.key),
                    nth=key.nth,
                    model=self._model_reference,
                    message=fault.message,
                    failures=failures.count,
                    answered=failures.answered,
                    since=failures.since,
                    next_try_at=failures.next_try_at,
                )
            )
            on_failure(fault.message, delay)
            # A later leg must not begin to count anew.
            await parts.log.flush()
            await self._wait(key, failures, fault.message)

    async def _wait(self, key: StepKey, failures: Failures, message: str) -> None:
        waits = self._journal.parts.waits
        until, now = failures.next_try_at, waits.clock.now()
        if until is None or until <= now:
            return
        if failures.since is not None:
            # By the clock of another server, which may be ahead of this one's by any time.
            until = min(until, now + (until - failures.since))
        if failures.holds_leg or until - now <= SHORT_REST:
            await waits.clock.sleep_until(until)
            return
        # The end of the leg, which holds it, is not sent by way of the log's own masking.
        detail = self._journal.parts.masker.mask(message)[:500]
        reason = WaitReason(kind=WaitKind.MODEL, key=self._model_reference[:255], until=until, detail=detail)
        await waits.until_over(key, [reason], until)
