"""The step of a model's answer: the recorded one for the same request, else a new one that is paid for."""

import functools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import JsonValue
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart
from pydantic_ai.models import ModelRequestParameters

from agent_runner.errors import ExecutionFailure
from agent_runner.journal.asking import PatientAsking, RequestTooLarge
from agent_runner.journal.bodies import is_submitted, usage_of_answer
from agent_runner.journal.compacting import CompactSteps
from agent_runner.journal.fingerprints import Request, difference
from agent_runner.journal.in_hand import AnswerInHand
from agent_runner.journal.kinds import SUBMITTED, StepKey
from agent_runner.journal.scopes import AgentScope, running_call
from agent_runner.journal.steps import StepJournal
from agent_runner.journal.unexecuted import UnexecutedCalls
from agent_runner.masking_threads import off_loop
from agent_runner.tracing import mark_replayed, mark_requests
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.events import (
    MAX_RETRY_REASON_CHARACTERS,
    Asked,
    ModelPartial,
    ModelResponded,
    ModelRetry,
    RequestChanged,
    StepFinished,
    ToolFinished,
)

_REFUSED: Final = (ToolOutcome.DENIED, ToolOutcome.EXPIRED)
_Aspect = Literal["tools", "instructions", "settings"]
_ASPECTS: Final[tuple[_Aspect, ...]] = ("tools", "instructions", "settings")


@dataclass(frozen=True)
class OpenRequest:
    """A request whose messages may still be replaced: here, and in the run that it is of."""

    messages: list[ModelMessage]
    settings: Mapping[str, object] | None
    parameters: ModelRequestParameters
    run_messages: list[ModelMessage]
    """What the run goes on with."""

    @property
    def as_it_is(self) -> Request:
        """The request."""
        return Request(self.messages, self.settings, self.parameters)

    def replace_messages(self, scope: AgentScope, messages: Sequence[ModelMessage]) -> None:
        """Let the request and its run go on with these."""
        scope.before.forget()
        scope.is_compacted = True
        self.messages[:] = messages
        self.run_messages[:] = messages


class ModelSteps:
    """The answers of one leg."""

    def __init__(
        self, journal: StepJournal, model_reference: str, compactions: CompactSteps | None = None
    ) -> None:
        """`model_reference` is `provider:name` of the model that answers."""
        self._compactions = compactions
        self._journal = journal
        self._model_reference = model_reference
        self._asking = PatientAsking(journal, model_reference)
        self._unexecuted = UnexecutedCalls(journal)

    async def answer(
        self, scope: AgentScope, run_step: int, request: OpenRequest, ask: Callable[[], Awaitable[JsonValue]]
    ) -> JsonValue:
        """The answer to the request. Shape: pydantic-ai's `ModelResponse` as JSON.

        Args:
            run_step: which turn of its run it is.
            ask: makes the request once, with the messages as they are then.

        Raises:
            ExecutionFailure: a limit is reached, the model cannot be had, or the log holds the answer to
                something else.
        """
        scope.before.put_before(request.messages)
        try:
            await self._unexecuted.note(scope, request.messages)
            self._mark_refusals(scope, request.messages)
            first = scope.begins_turn(run_step)
            if first is not None and self._compactions is not None:
                shorter = await self._compactions.before_turn(scope, first, request.as_it_is)
                if shorter is not None:
                    request.replace_messages(scope, shorter)
            recorded = self._journal.parts.recorded
            # Nor behind failures of it, which a leg that begins there would not see.
            is_known = first in recorded.results or first in recorded.failed_requests
            if first is not None and not scope.path and not is_known:
                await self._journal.store_history(scope, request.messages)
            key = scope.begin_request(run_step)
            answer = await self._answer(scope, key, request, ask)
        except ExecutionFailure as failure:
            self._journal.failure = failure
            raise
        scope.before.note(request.messages, request.run_messages)
        scope.take_answer(answer)
        return answer

    def _mark_refusals(self, scope: AgentScope, messages: Sequence[ModelMessage]) -> None:
        """Let messages tell a refused call from a failed one: pydantic-ai has one word for results that a
        tool raised, and a refusal has to survive a compaction."""
        results = self._journal.parts.recorded.results
        last = messages[-1]
        for part in last.parts if isinstance(last, ModelRequest) else ():
            if isinstance(part, ToolReturnPart) and part.outcome == "failed":
                known = results.get(scope.call_key(part.tool_call_id))
                if isinstance(known, ToolFinished) and known.outcome in _REFUSED:
                    part.outcome = "denied"

    async def _answer(
        self, scope: AgentScope, key: StepKey, request: OpenRequest, ask: Callable[[], Awaitable[JsonValue]]
    ) -> JsonValue:
        while True:
            mark = scope.chain.mark()
            asked = await off_loop(self._journal.parts.masker, 0, scope.chain.extend, request.as_it_is)
            answer = await self._recorded_answer(scope, key, asked)
            if answer is not None:
                return answer
            try:
                return await self._ask(scope, key, asked, request, ask)
            except RequestTooLarge as refusal:
                scope.chain.go_back_to(mark)
                shorter = None
                if self._compactions is not None:
                    shorter = await self._compactions.after_refusal(
                        scope, key, request.as_it_is, refusal.fault
                    )
                if shorter is None:
                    fault = refusal.fault
                    raise ExecutionFailure(fault.code, fault.message, fault.hint) from refusal
                request.replace_messages(scope, shorter)

    def _show_failure(self, scope: AgentScope, reason: str, seconds: float) -> None:
        """What was shown of a broken answer no longer holds. Of agents below the execution's nothing was."""
        if not scope.path:
            self._journal.parts.log.show(ModelPartial(turn=scope.turn, text=""))
            if self._journal.answer_in_hand is not None:
                self._journal.answer_in_hand.begin_again()
        reason = reason[:MAX_RETRY_REASON_CHARACTERS]
        self._journal.parts.log.show(ModelRetry(turn=scope.turn, reason=reason, seconds=round(seconds, 3)))

    async def _recorded_answer(self, scope: AgentScope, key: StepKey, asked: Asked) -> JsonValue | None:
        parts = self._journal.parts
        known = parts.recorded.results.get(key)
        if isinstance(known, ModelResponded):
            self._compare(scope, key, known.asked, asked)
            mark_replayed()
            return await parts.bodies.load_answer(known.response)
        submitted = parts.recorded.results.get(key._replace(kind=SUBMITTED))
        if isinstance(submitted, StepFinished) and submitted.result is not None:
            mark_replayed()
            return await parts.bodies.load_answer(submitted.result)
        return None

    def _compare(self, scope: AgentScope, key: StepKey, recorded: Asked | None, now: Asked) -> None:
        """Whether the same is asked. Other tools, instructions or settings hold from the next turn on."""
        if recorded is None:
            return
        if (what := difference(recorded, now)) is not None:
            raise self._journal.diverged(key, what)
        scope.changed = {aspect for aspect in _ASPECTS if getattr(recorded, aspect) != getattr(now, aspect)}

    async def _ask(
        self,
        scope: AgentScope,
        key: StepKey,
        asked: Asked,
        request: OpenRequest,
        ask: Callable[[], Awaitable[JsonValue]],
    ) -> JsonValue:
        journal, parts = self._journal, self._journal.parts
        parts.budget.check(scope.turn)
        inner = (call := running_call.get()) is not None and call.is_step
        async with parts.gate.step(inner=inner):
            if scope.changed:
                changed: list[_Aspect] = [aspect for aspect in _ASPECTS if aspect in scope.changed]
                journal.write(RequestChanged(agent_path=scope.path, turn=scope.turn, changed=changed))
                scope.changed = set()
            # What this request builds on goes out before it, and is in the log before the answer.
            await parts.log.secure()
            started = time.monotonic()
            on_failure = functools.partial(self._show_failure, scope)
            if not scope.path:
                journal.answer_in_hand = AnswerInHand(
                    scope.turn,
                    key.nth,
                    self._model_reference,
                    request.messages,
                    request.parameters,
                    scope.size,
                )
            answer, retries = await self._asking.answer(key, ask, on_failure)
            mark_requests(retries + 1)
            answer = await journal.clean(answer)
            usage = usage_of_answer(answer)
            parts.budget.add(usage)
            scope.size.reported(usage.input_tokens, estimated=usage.estimated)
            seconds = round(time.monotonic() - started, 6)
            if is_submitted(answer):
                event = StepFinished(
                    agent_path=key.agent_path,
                    kind=SUBMITTED,
                    key=key.key,
                    nth=key.nth,
                    result=await parts.bodies.store_answer(answer),
                    usage=usage,
                    duration_seconds=seconds,
                )
                journal.write(event)
                await parts.log.flush()
            else:
                event = ModelResponded(
                    agent_path=key.agent_path,
                    turn=scope.turn,
                    nth=key.nth,
                    model=self._model_reference,
                    response=await parts.bodies.store_answer(answer),
                    usage=usage,
                    retries=retries,
                    duration_seconds=seconds,
                    asked=asked,
                )
                # A tool call, the next request or the leg's end, and nothing of them takes effect before.
                journal.write(event, more_follows=True)
            if not scope.path:
                journal.answer_in_hand = None
        try:
            parts.budget.check_price(self._model_reference, is_known=usage.cost_usd is not None)
        except ExecutionFailure:
            await parts.log.flush()
            raise
        return answer
