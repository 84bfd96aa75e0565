"""The step of a tool call: the recorded result, else the call, written down around it.

The order is pydantic-ai's: a tool that changes anything is declared `sequential` by its toolset, so it runs
alone, after what the answer asks for before it and before what comes after it.
"""

import asyncio
import functools
import json
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from pydantic import JsonValue, TypeAdapter

from agent_runner.errors import RunnerError, stack_of
from agent_runner.journal.inputs import InputSteps
from agent_runner.journal.kinds import TOOL, StepKey, call_key
from agent_runner.journal.results import (
    AFTER_UNKNOWN,
    OUTCOME_UNKNOWN,
    STOPPED_IN_THE_MIDDLE,
    told,
    with_note,
)
from agent_runner.journal.scopes import AgentScope, RunningCall, running_call
from agent_runner.journal.steps import StepJournal
from agent_runner.toolsets import COMMAND_TOOL, CallInHand, ToolFacts, call_in_hand
from agent_runner.tracing import mark_replayed, mark_tool_outcome
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.events import ToolFinished, ToolOutput, ToolStarted
from stigmer_contract.inputs import InputOutcome
from stigmer_contract.manifest_parts import format_duration
from stigmer_contract.pydantic_ai_format import outcome_of_pydantic_ai
from stigmer_isolation.running_command import command_output_listener

logger = logging.getLogger(__name__)

TOOL_TIMEOUT_GRACE_SECONDS: Final = 5.0
"""A tool that has its own time-out (a command) is to report it itself, with the output so far."""

told_besides: ContextVar[str | None] = ContextVar("told_besides", default=None)
"""What the model is told before the result of the call that is being made."""

_ARGUMENTS: Final[TypeAdapter[dict[str, Any]]] = TypeAdapter(dict[str, Any])


@dataclass(frozen=True)
class ToolCall:
    """A call that is to be executed, and what its toolset says of its tool."""

    call_id: str
    tool: str
    toolset: str
    arguments: dict[str, Any]
    facts: ToolFacts


class ToolSteps:
    """The tool calls of one leg."""

    def __init__(self, journal: StepJournal) -> None:
        self._journal = journal

    async def result(
        self, scope: AgentScope, call: ToolCall, run: Callable[[], Awaitable[JsonValue]]
    ) -> JsonValue:
        """The call's result. Shape: pydantic-ai's `CallToolResult` as JSON.

        Raises:
            ExecutionFailure: the log holds the result of another tool's call, or cannot take this one's.
        """
        journal = self._journal
        key = scope.next_key(TOOL, call_key(scope.turn, call.call_id))
        scope.executed.add(call.call_id)
        known = journal.parts.recorded.results.get(key)
        if isinstance(known, ToolFinished):
            if known.tool != call.tool:
                raise journal.diverged(key, f"the log has a call of {known.tool!r}, now it is {call.tool!r}")
            scope.is_uncertain |= known.outcome is ToolOutcome.UNKNOWN
            mark_replayed()
            return await journal.parts.bodies.load_result(known.result)
        has_begun = key in journal.parts.recorded.started
        if call.facts.side_effects and has_begun and not self._may_go_on(key, call):
            scope.is_uncertain = True
            message = OUTCOME_UNKNOWN + await self._what_people_said(key)
            return await self._record(scope, key, call, told(message), ToolOutcome.UNKNOWN)
        if call.facts.side_effects and scope.is_uncertain and not has_begun:
            return await self._record(scope, key, call, told(AFTER_UNKNOWN), ToolOutcome.CANCELLED)
        return await self._carry_out(scope, key, call, run)

    def _may_go_on(self, key: StepKey, call: ToolCall) -> bool:
        """Whether a call that another leg began is no danger: it runs agents, may be made twice, or waits
        for what its server is told."""
        is_put_down = self._journal.parts.recorded.put_down(key.agent_path, key.key) is not None
        return call.facts.runs_agents or call.facts.may_repeat or is_put_down

    async def _what_people_said(self, key: StepKey) -> str:
        """What people were asked in the middle of a call that was cut off, once all of it is answered."""
        inner = running_call.get() is not None
        async with self._journal.parts.gate.step(inner=inner):
            said = await InputSteps(self._journal).until_resolved(key.agent_path, key.key)
        lines = [
            f"\nIn the middle of it a person was asked: {asked.title}\n"
            + (
                f"The person answered: {json.dumps(told.answer, ensure_ascii=False)}"
                if told.outcome is InputOutcome.ANSWERED
                else "The person did not answer that."
            )
            for asked, told in said
        ]
        return "".join(lines)

    async def refuse(
        self, scope: AgentScope, call: ToolCall, outcome: ToolOutcome, message: str
    ) -> JsonValue:
        """The result of a call that is not carried out, as the model is told; shape as that of `result`."""
        key = scope.next_key(TOOL, call_key(scope.turn, call.call_id))
        scope.executed.add(call.call_id)
        return await self._record(scope, key, call, await self._journal.clean(told(message)), outcome)

    async def _carry_out(
        self, scope: AgentScope, key: StepKey, call: ToolCall, run: Callable[[], Awaitable[JsonValue]]
    ) -> JsonValue:
        parts = self._journal.parts
        outer = running_call.get()
        snapshots = parts.snapshots if call.facts.side_effects and not call.facts.runs_agents else None
        async with self._held(call, inner=outer is not None and outer.is_step):
            if snapshots is not None:
                await snapshots.before_change(scope.turn, call.call_id)
            if key not in parts.recorded.started:
                arguments = await self._journal.clean(_ARGUMENTS.dump_python(call.arguments, mode="json"))
                self._journal.write(
                    ToolStarted(
                        agent_path=key.agent_path,
                        turn=scope.turn,
                        call_id=call.call_id,
                        nth=key.nth,
                        toolset=call.toolset,
                        tool=call.tool,
                        arguments=await parts.bodies.store_value(arguments),
                        side_effects=call.facts.side_effects,
                    )
                )
            if call.facts.side_effects:
                await parts.log.flush()
            started = time.monotonic()
            running = RunningCall(scope, call.call_id, not call.facts.runs_agents, [])
            with self._journal.calls.holding(runs_agents=call.facts.runs_agents) as wish:
                token = running_call.set(running)
                in_hand = CallInHand(functools.partial(self._show, call, "stdout"))
                try:
                    ran = with_note(await self._run(call, run, in_hand), told_besides.get())
                finally:
                    running_call.reset(token)
                if wish.has_cut:
                    ran = with_note(ran, STOPPED_IN_THE_MIDDLE)
                    in_hand.is_outcome_unknown |= call.facts.side_effects
                result = await self._journal.clean(ran)
                seconds = time.monotonic() - started
                outcome = running.outcomes[-1] if running.outcomes else outcome_of_pydantic_ai(result)
                if in_hand.is_outcome_unknown:
                    outcome, scope.is_uncertain = ToolOutcome.UNKNOWN, True
                recorded = await self._record(scope, key, call, result, outcome, seconds)
            if snapshots is not None:
                snapshots.after_change()
            return recorded

    def _held(self, call: ToolCall, *, inner: bool) -> AbstractAsyncContextManager[None]:
        """Of a call that runs agents each inner step is one in hand: between them the leg may hand back."""
        return nullcontext() if call.facts.runs_agents else self._journal.parts.gate.step(inner=inner)

    def _show(self, call: ToolCall, stream: Literal["stdout", "stderr"], text: str) -> None:
        self._journal.parts.log.show(ToolOutput(call_id=call.call_id, stream=stream, text=text))

    async def _run(
        self, call: ToolCall, run: Callable[[], Awaitable[JsonValue]], in_hand: CallInHand
    ) -> JsonValue:
        # Other tools may run commands of their own, whose output is not meant for people.
        show_output = functools.partial(self._show, call) if call.tool == COMMAND_TOOL else None
        token, in_hand_token = command_output_listener.set(show_output), call_in_hand.set(in_hand)
        limit = self._journal.parts.limits.tool_timeout
        timeout = limit + timedelta(seconds=TOOL_TIMEOUT_GRACE_SECONDS)
        scope = asyncio.timeout(None if call.facts.takes_its_time else timeout.total_seconds())
        try:
            async with scope:
                in_hand.clock = scope
                return await run()
        except TimeoutError as error:
            if not scope.expired():
                return told(f"{type(error).__name__}: {error}")
            if in_hand.is_outcome_unknown:
                return told(f"It took longer than {format_duration(limit)}. {STOPPED_IN_THE_MIDDLE}")
            return told(f"The call was stopped: it took longer than {format_duration(limit)}.")
        except RunnerError:
            raise
        except Exception as error:
            # A tool's defect is the model's to work around; it must not end the execution.
            logger.error("tool %s failed unexpectedly:\n%s", call.tool, stack_of(error))
            return told(f"The tool failed unexpectedly: {type(error).__name__}.")
        finally:
            command_output_listener.reset(token)
            call_in_hand.reset(in_hand_token)

    async def _record(
        self,
        scope: AgentScope,
        key: StepKey,
        call: ToolCall,
        result: JsonValue,
        outcome: ToolOutcome,
        seconds: float = 0.0,
    ) -> JsonValue:
        mark_tool_outcome(outcome)
        parts = self._journal.parts
        self._journal.write(
            ToolFinished(
                agent_path=key.agent_path,
                turn=scope.turn,
                call_id=call.call_id,
                nth=key.nth,
                toolset=call.toolset,
                tool=call.tool,
                outcome=outcome,
                result=await parts.bodies.store_result(result, outcome),
                duration_seconds=round(seconds, 6),
            ),
            more_follows=parts.gate.steps_in_hand <= 1,
        )
        return result
