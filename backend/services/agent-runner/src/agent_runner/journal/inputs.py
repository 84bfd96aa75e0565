"""The steps that ask people: what is asked goes into the log once, and the step goes on when that says how it
was resolved.

The server decides what resolves an input, and writes it down; here it is only looked up. While it is open and
nothing else is in hand, the leg ends `waiting`, and any runner's next one goes on exactly there.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, Literal

from pydantic import BaseModel, JsonValue

from agent_runner.journal.kinds import INPUT, StepKey, call_key
from agent_runner.journal.scopes import AgentScope, running_call
from agent_runner.journal.steps import StepJournal
from agent_runner.toolsets import Told
from agent_runner.toolsets.ask_user import ASK_TOOL
from agent_runner.toolsets.client_tools import CLIENT_TOOLSET
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.events import InputRequested, InputResolved
from stigmer_contract.identifiers import INPUT_PREFIX, new_id
from stigmer_contract.inputs import (
    MAX_TITLE_CHARACTERS,
    ClientToolCall,
    InputKind,
    InputOutcome,
    Question,
    wait_kind_of,
)
from stigmer_contract.manifest_approval import Escalation
from stigmer_contract.waits import WaitReason

_TOOL_OUTCOMES: Final = {
    InputOutcome.DENIED: ToolOutcome.DENIED,
    InputOutcome.EXPIRED: ToolOutcome.EXPIRED,
    InputOutcome.CANCELLED: ToolOutcome.CANCELLED,
}
"""How a call ended whose input was resolved so; of the others its own result says it."""


class InputSteps:
    """The inputs of one leg; an `Asker` for the tools."""

    def __init__(self, journal: StepJournal) -> None:
        self._journal = journal
        self._newest_id: str | None = None

    async def ask(self, question: Question, schema: dict[str, JsonValue], seconds: float | None) -> Told:
        """Ask a person, in the tool call that is at work, and return when that is resolved."""
        return await self._put(
            InputKind.QUESTION, ASK_TOOL, ASK_TOOL, question.text, question, schema, seconds
        )

    async def hand_over(self, tool: str, arguments: Mapping[str, JsonValue], seconds: float | None) -> Told:
        """Let whoever is connected carry out the call that is at work, and return with its result."""
        content = ClientToolCall(tool=tool, arguments=dict(arguments))
        title = f"{tool} {json.dumps(content.arguments, ensure_ascii=False)}"
        return await self._put(InputKind.CLIENT_TOOL, CLIENT_TOOLSET, tool, title, content, None, seconds)

    async def put_question(
        self,
        toolset: str,
        tool: str,
        question: Question,
        schema: dict[str, JsonValue],
        kind: InputKind = InputKind.QUESTION,
    ) -> tuple[StepKey, InputRequested]:
        """Ask a person what the tool call at work came to need, unless it has asked just that before."""
        call = running_call.get()
        assert call is not None, "inputs are steps of tool calls"
        of_call = call_key(call.scope.turn, call.call_id)
        parts = self._journal.parts
        value = await self._journal.clean(question.model_dump(mode="json", exclude_none=True))
        while (known := parts.recorded.inputs.get(place := call.scope.next_key(INPUT, of_call))) is not None:
            if known.answer_schema == schema and await parts.bodies.load_value(known.content) == value:
                return place, known
        title = question.text.partition("\n\n")[2] or question.text
        event = await self.request(
            place,
            call.scope,
            call.call_id,
            kind=kind,
            toolset=toolset,
            tool=tool,
            title=title,
            content=question,
            answer_schema=schema,
        )
        return place, event

    async def told(self, place: StepKey, requested: InputRequested) -> Told:
        """How the input was resolved, and with what; while it is open the leg may end."""
        resolved = await self.resolution(place, requested)
        answer = resolved.answer
        value = None if answer is None else await self._journal.parts.bodies.load_value(answer)
        return Told(resolved.outcome, value, resolved.reason)

    async def until_resolved(self, agent_path: str, call: str) -> list[tuple[InputRequested, Told]]:
        """What was asked in the middle of a call, and how that was resolved; meanwhile the leg may end."""
        asked = self._journal.parts.recorded.inputs_of(agent_path, call)
        return [(requested, await self.told(place, requested)) for place, requested in asked]

    async def _put(
        self,
        kind: InputKind,
        toolset: str,
        tool: str,
        title: str,
        content: BaseModel,
        schema: dict[str, JsonValue] | None,
        seconds: float | None,
    ) -> Told:
        call = running_call.get()
        assert call is not None, "inputs are steps of tool calls"
        parts = self._journal.parts
        while True:
            place = call.scope.next_key(INPUT, call_key(call.scope.turn, call.call_id))
            requested = parts.recorded.inputs.get(place)
            known = None if requested is None else parts.recorded.resolutions.get(requested.input_id)
            if known is None or known.outcome is not InputOutcome.CANCELLED:
                break
            # The execution had ended while it was open, and goes on by a retry: nobody has answered yet.
        if requested is None:
            until = None if seconds is None else parts.waits.clock.now() + timedelta(seconds=seconds)
            requested = await self.request(
                place,
                call.scope,
                call.call_id,
                kind=kind,
                toolset=toolset,
                tool=tool,
                title=title,
                content=content,
                answer_schema=schema,
                expires_at=until,
            )
        told = await self.told(place, requested)
        call.outcomes.extend(_outcome_of(told))
        return told

    async def request(
        self,
        place: StepKey,
        scope: AgentScope,
        call_id: str,
        *,
        kind: InputKind,
        toolset: str,
        tool: str,
        title: str,
        content: BaseModel,
        answer_schema: dict[str, JsonValue] | None = None,
        expires_at: datetime | None = None,
        remind_at: datetime | None = None,
        on_expiry: Literal["deny", "approve"] = "deny",
        escalate: Escalation | None = None,
    ) -> InputRequested:
        """Write down what is asked, for the first time."""
        value = await self._journal.clean(content.model_dump(mode="json", exclude_none=True))
        # Lists go by the id, so those of one answer stay in its order.
        self._newest_id = new_id(INPUT_PREFIX, after=self._newest_id)
        event = InputRequested(
            input_id=self._newest_id,
            kind=kind,
            agent_path=scope.path,
            turn=scope.turn,
            call_id=call_id,
            nth=place.nth,
            toolset=toolset,
            tool=tool,
            title=_one_line(title),
            content=await self._journal.parts.bodies.store_value(value),
            answer_schema=answer_schema,
            expires_at=expires_at,
            remind_at=remind_at,
            on_expiry=on_expiry,
            escalate=escalate,
        )
        self._journal.write(event)
        return event

    async def resolution(self, place: StepKey, requested: InputRequested) -> InputResolved:
        """How the input was resolved. While it is open the leg may end, and the next one returns."""
        parts = self._journal.parts
        resolved = parts.recorded.resolutions.get(requested.input_id)
        while resolved is None:
            reason = WaitReason(kind=wait_kind_of(requested.kind), key=requested.input_id)
            await parts.waits.until_over(place, [reason], None)
            resolved = parts.recorded.resolutions.get(requested.input_id)
        return resolved


def _outcome_of(resolved: Told) -> list[ToolOutcome]:
    outcome = _TOOL_OUTCOMES.get(resolved.outcome)
    return [] if outcome is None else [outcome]


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_TITLE_CHARACTERS else f"{line[: MAX_TITLE_CHARACTERS - 1]}…"
