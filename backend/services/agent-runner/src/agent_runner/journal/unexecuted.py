"""Calls that an answer asks for and that are never executed: each gets its `tool.finished` all the same.

pydantic-ai answers some calls by itself before any tool is asked: there is no such tool, it is not available,
its arguments are of no use. What it answers stands in the next request, and is written down from there. What
the log says of such a call holds for a later leg, however that would word it. The calls that are open when an
execution ends are settled then.
"""

from collections.abc import Sequence

from pydantic import JsonValue
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart

from agent_runner.journal.bodies import AskedCall, calls_in
from agent_runner.journal.kinds import TOOL, StepKey, call_key
from agent_runner.journal.results import (
    CUT_OFF_BY_LENGTH,
    NOT_CARRIED_OUT,
    OUTCOME_UNKNOWN,
    STOPPED_IN_THE_MIDDLE,
    STOPPED_READING,
    message_of,
    told,
    unexecuted,
)
from agent_runner.journal.scopes import AgentScope
from agent_runner.journal.steps import StepJournal
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import ExecutionFailed, TerminalEvent, ToolFinished


class UnexecutedCalls:
    """What becomes of such calls in one leg."""

    def __init__(self, journal: StepJournal) -> None:
        self._journal = journal
        self._begun_before = frozenset(journal.parts.recorded.started)

    async def note(self, scope: AgentScope, messages: Sequence[ModelMessage]) -> None:
        """Write down what the model is now told of calls of its last answer that were not executed; what is
        written down already is what it is told."""
        if len(scope.executed) == len(scope.calls) or not isinstance(messages[-1], ModelRequest):
            return
        for part in messages[-1].parts:
            if isinstance(part, ToolReturnPart) and part.tool_call_id in scope.calls.keys() - scope.executed:
                await self._note_part(scope, part)
        scope.executed |= scope.calls.keys()

    async def _note_part(self, scope: AgentScope, part: ToolReturnPart) -> None:
        parts = self._journal.parts
        key = scope.call_key(part.tool_call_id)
        known = parts.recorded.results.get(key)
        if isinstance(known, ToolFinished):
            part.content = message_of(await parts.bodies.load_result(known.result)) or part.content
            return
        if part.tool_call_id in scope.cut_off:
            part.content = CUT_OFF_BY_LENGTH
        outcome, result = unexecuted(part)
        result = await self._journal.clean(result)
        part.content = message_of(result) or part.content
        await self._finish(key, scope.turn, scope.calls[part.tool_call_id], outcome, result)

    async def settle(self, terminal: TerminalEvent) -> None:
        """Write down, as the execution ends, what became of the calls that are still open."""
        parts = self._journal.parts
        for answer in list(parts.recorded.answers.values()):
            for call in calls_in(await parts.bodies.load_answer(answer.response)):
                key = StepKey(answer.agent_path, TOOL, call_key(answer.turn, call.call_id), 1)
                if key not in parts.recorded.results:
                    outcome, message = self._ending(key, terminal)
                    await self._finish(key, answer.turn, call, outcome, told(message))

    def _ending(self, key: StepKey, terminal: TerminalEvent) -> tuple[ToolOutcome, str]:
        started = self._journal.parts.recorded.started.get(key)
        if started is not None and not started.side_effects:
            return ToolOutcome.CANCELLED, STOPPED_READING
        if key in self._begun_before:
            return ToolOutcome.UNKNOWN, OUTCOME_UNKNOWN
        if started is not None:
            return ToolOutcome.UNKNOWN, STOPPED_IN_THE_MIDDLE
        if isinstance(terminal, ExecutionFailed):
            misbehaved = terminal.code is ErrorCode.AGENT_MISBEHAVED
            outcome = ToolOutcome.INVALID if misbehaved else ToolOutcome.CANCELLED
            return outcome, f"{NOT_CARRIED_OUT}: {terminal.message}."
        return ToolOutcome.CANCELLED, f"{NOT_CARRIED_OUT}: the execution was cancelled before."

    async def _finish(
        self, key: StepKey, turn: int, call: AskedCall, outcome: ToolOutcome, result: JsonValue
    ) -> None:
        self._journal.write(
            ToolFinished(
                agent_path=key.agent_path,
                turn=turn,
                call_id=call.call_id,
                nth=key.nth,
                tool=call.tool,
                outcome=outcome,
                result=await self._journal.parts.bodies.store_result(result, outcome),
                duration_seconds=0,
            ),
            more_follows=True,
        )
