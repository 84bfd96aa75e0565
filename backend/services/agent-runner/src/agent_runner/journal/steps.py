"""One leg's steps: look a step up in the log, else do it and write it down.

The rules that make an execution survive a crash stand in this folder and nowhere else:

- A model answer is in the log before anything that follows from it happens.
- A tool with side effects is written down before it runs. Found started but not finished, its outcome is
  unknown: the model is told so, and nothing runs twice behind its back.
- A recorded result is played only to who asks the same.
- Limits count what the log holds, so they hold across crashes.
- Told to drain, the steps in hand end and are written down; no new one begins.

Here is what all kinds of steps share, and every kind that has no rules of its own.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import JsonValue
from pydantic_ai.messages import ModelMessage, repair_messages

from agent_runner.errors import ExecutionFailure
from agent_runner.journal.bodies import Bodies, usage_of_operation
from agent_runner.journal.budget import Budget
from agent_runner.journal.fingerprints import digest_of
from agent_runner.journal.gate import StepGate
from agent_runner.journal.history import History
from agent_runner.journal.in_hand import AnswerInHand, CallsInHand
from agent_runner.journal.kinds import SUBMITTED, TOOLS_LISTED, StepKey, kind_named
from agent_runner.journal.open_waits import OpenWaits
from agent_runner.journal.recorded import MESSAGES_GIVEN, RecordedSteps
from agent_runner.journal.scopes import AgentScope, AgentScopes, running_call
from agent_runner.journal.surrogates import mend_json
from agent_runner.masking import Masker, length_of
from agent_runner.masking_threads import off_loop
from agent_runner.tracing import mark_replayed
from stigmer_contract.api import Resumption
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    Event,
    GrantRevoked,
    HistoryRepaired,
    HistoryStored,
    InputResolved,
    LiveEvent,
    ModelDelta,
    RecordedEvent,
    StepFinished,
)
from stigmer_contract.manifest import Limits


class Log(Protocol):
    """Where a leg's events go; `writer` has the one that is used."""

    def append(self, *events: Event, more_follows: bool = False) -> None:
        """Queue events for the log, in order."""
        ...

    def show(self, event: LiveEvent) -> None:
        """Show an event to whoever watches."""
        ...

    def send(self) -> None:
        """Let what was appended go out now."""
        ...

    async def secure(self) -> None:
        """Let what was appended go out; wait for it only where the execution may be another's by now."""
        ...

    async def flush(self) -> None:
        """Wait until everything appended so far is in the log."""
        ...

    async def news(self) -> Sequence[RecordedEvent]:
        """Messages that have come since, as far as the server told with its last answer."""
        ...

    async def resolutions(self) -> Sequence[InputResolved]:
        """What people answered since the leg began, or this was asked last; the server is asked for it."""
        ...

    async def revocations(self) -> Sequence[GrantRevoked]:
        """What was revoked since the leg began, or this was asked last; the server is asked for it."""
        ...


class Snapshots(Protocol):
    """What keeps the files of the workspace around steps that may change them."""

    async def before_change(self, turn: int, call_id: str) -> None:
        """Such a step is about to begin."""
        ...

    def after_change(self) -> None:
        """It has ended, and its end was written."""
        ...


@dataclass(frozen=True)
class JournalParts:
    """What the steps of one leg share."""

    recorded: RecordedSteps
    """The log as the leg found it, and what it adds."""
    log: Log
    bodies: Bodies
    gate: StepGate
    masker: Masker
    """Answers and results are masked before they are written down and before the model reads them, so that a
    later leg goes on from the very same texts."""
    budget: Budget
    limits: Limits
    waits: OpenWaits
    snapshots: Snapshots | None = None


class StepJournal:
    """The steps of one leg: what is the same for all kinds of them."""

    def __init__(self, parts: JournalParts) -> None:
        self.parts = parts
        self.scopes = AgentScopes(parts.masker)
        self.history = History([], 0, 0)
        self.calls = CallsInHand()
        self.answer_in_hand: AnswerInHand | None = None
        self.failure: ExecutionFailure | None = None
        """Why the execution must end as failed, once a step has found out."""

    def go_on_from(self, history: History, resumption: Resumption | None) -> None:
        """Let the execution's own agent go on behind these messages."""
        self.history, self.scopes.resumption = history, resumption

    async def store_history(self, scope: AgentScope, messages: Sequence[ModelMessage]) -> None:
        """Store what the execution's own agent is about to be asked, where a piece of it is due."""
        counters = self.scopes.counters(scope)
        if scope.chain.extends(messages):
            counters["asked"] = scope.chain.asked_before
        counters[MESSAGES_GIVEN] = self.parts.recorded.messages_given
        usage = self.parts.recorded.usage
        is_due, scope.is_compacted = scope.is_compacted, False
        parts = await self.history.store_if_due(
            self.parts.bodies, messages, scope.turn, usage, counters, is_replaced=is_due
        )
        if parts:
            self.write(*parts, *self.parts.recorded.lists_of_tools, more_follows=True)
            self.parts.recorded.forget_repeated()

    async def whole_history(self, messages: Sequence[ModelMessage]) -> list[HistoryStored]:
        """All that the session's next execution is to begin with, `messages` at the end of it; to be written
        with the end of this one, for no leg can go on from there."""
        scope = self.scopes.of_execution
        turn, usage = 0 if scope is None else scope.turn, self.parts.recorded.usage
        before = [] if scope is None else scope.before.messages
        whole = repair_messages([*before, *messages])
        return await self.history.store(self.parts.bodies, whole, turn, usage, {})

    def write(self, *events: Event, more_follows: bool = False) -> None:
        """Append events; from then on they can be looked up.

        Raises:
            ExecutionFailure: one of them cannot be written.
        """
        self.parts.log.append(*events, more_follows=more_follows)
        for event in events:
            self.parts.recorded.add(event)

    async def clean(self, value: JsonValue) -> JsonValue:
        """A result as it may be written down: without secrets and half characters."""
        masker = self.parts.masker
        return await off_loop(masker, length_of(value), lambda: masker.mask_json(mend_json(value)))

    def show_answer(self, kind: Literal["text", "thinking"], text: str) -> None:
        """Show a piece of the answer that the execution's own agent is being given."""
        own = self.scopes.of_execution
        if own is not None and own.turn:
            self.parts.log.show(ModelDelta(turn=own.turn, kind=kind, text=text))
            if self.answer_in_hand is not None:
                self.answer_in_hand.take(text, is_said=kind == "text")

    async def note_interrupted(self) -> None:
        """Write down what was said of an answer that is cut off now, if one is."""
        answer = self.answer_in_hand
        cut = None if answer is None else await answer.interrupted(self.parts.bodies, self.parts.masker)
        if cut is not None:
            self.write(cut, more_follows=True)

    def note_repair(self, what: str) -> None:
        """Write down that the provider took the conversation only after a change."""
        own = self.scopes.of_execution
        if own is not None and own.turn:
            self.write(HistoryRepaired(turn=own.turn, message=what), more_follows=True)

    def diverged(self, key: StepKey, what: str) -> ExecutionFailure:
        """The failure of an execution whose log holds something else than what is now asked."""
        agent = f" of agent {key.agent_path!r}" if key.agent_path else ""
        self.failure = ExecutionFailure(
            ErrorCode.REPLAY_DIVERGED,
            f"the log does not fit the execution any more at {key.kind} {key.key}{agent}: {what}",
            "start the execution again; if nobody changed its session, report this as a defect",
        )
        return self.failure

    async def step(
        self,
        scope: AgentScope,
        kind: str,
        key: str,
        do: Callable[[], Awaitable[JsonValue]],
        *,
        digest: str | None = None,
    ) -> JsonValue:
        """The result of a step that has no rules of its own: the recorded one, else what `do` gives.

        Args:
            digest: of what is asked; None where only the result has one.

        Raises:
            ExecutionFailure: the log holds the result of something else.
        """
        place = scope.next_key(kind, key)
        known = self.parts.recorded.results.get(place)
        if isinstance(known, StepFinished):
            return await self._play(place, known, digest)
        inner = (call := running_call.get()) is not None and call.is_step
        async with self.parts.gate.step(inner=inner):
            started = time.monotonic()
            result = await self.clean(await do())
            event = await self._finished(place, result, digest, time.monotonic() - started)
            self.write(event, more_follows=not kind_named(kind).must_settle)
            if kind_named(kind).must_settle:
                await self.parts.log.flush()
        if event.usage is not None:
            self.parts.budget.add(event.usage)
        return result

    async def _play(self, place: StepKey, known: StepFinished, digest: str | None) -> JsonValue:
        if digest is not None and known.digest not in (None, digest):
            raise self.diverged(place, f"it was called with other arguments ({known.digest}, now {digest})")
        mark_replayed()
        payload = self.parts.recorded.result_of(known)
        return None if payload is None else await self.parts.bodies.load_value(payload)

    async def _finished(
        self, place: StepKey, result: JsonValue, digest: str | None, seconds: float
    ) -> StepFinished:
        agent_path, kind, key, nth = place
        usage = None
        known = None
        if kind == TOOLS_LISTED:
            digest = digest_of(result)
            known = self.parts.recorded.same_result(agent_path, kind, key, digest)
        elif kind != SUBMITTED:
            usage = usage_of_operation(result)
        return StepFinished(
            agent_path=agent_path,
            kind=kind,
            key=key,
            nth=nth,
            digest=digest,
            result=await self.parts.bodies.store_value(result) if known is None else None,
            usage=usage,
            duration_seconds=round(seconds, 6),
        )
