"""Whether a call runs: the one place where that is decided, before anything of it is written down as begun.

The rules say at once, or a person is asked. All questions of one answer are asked together, before its first
call runs; each call then waits for its own, so that calls run in the order given, and none that changes
anything overtakes one that is undecided. What was asked holds, whatever rules a later version finds.
"""

import asyncio
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_ai.exceptions import ModelRetry
from pydantic_ai.tools import RunContext

from agent_runner.approval import ApprovalCall, ApprovalRules, Decision, decide
from agent_runner.journal.inputs import InputSteps
from agent_runner.journal.kinds import TOOL, StepKey, approval_key, call_key
from agent_runner.journal.results import NOT_CARRIED_OUT
from agent_runner.journal.scopes import AgentScope, running_call
from agent_runner.journal.steps import StepJournal
from agent_runner.journal.tool_steps import ToolCall
from agent_runner.toolsets import CATALOGUE, facts_of
from agent_runner.toolsets.proposals import NO_FILE, WRITING_TOOLS, Proposal, propose
from agent_runner.workspace import SessionWorkspace
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.events import InputRequested, InputResolved, ToolFinished
from stigmer_contract.inputs import Approval, InputKind, InputOutcome
from stigmer_contract.manifest import AgentSpec
from stigmer_contract.manifest_approval import ApprovalPolicy, ApprovalRule

MAX_QUESTIONS: Final = 20
"""About one call: whoever changes its arguments again and again into what cannot run is asked no further."""
MAX_SHOWN_ARGUMENTS: Final = 2000

_ARGUMENTS: Final[TypeAdapter[dict[str, Any]]] = TypeAdapter(dict[str, Any])


@dataclass(frozen=True)
class Admitted:
    """The call runs."""

    arguments: dict[str, Any]
    note: str | None = None
    """What the model is told besides its result: that something else ran than it asked for."""


@dataclass(frozen=True)
class Refused:
    """The call does not run."""

    outcome: ToolOutcome
    message: str
    """For the model."""


class Approvals:
    """The decisions about the calls of one leg."""

    def __init__(
        self,
        journal: StepJournal,
        inputs: InputSteps,
        spec: AgentSpec,
        least: ApprovalPolicy | None,
        workspace: SessionWorkspace,
    ) -> None:
        """Make it when the log is known: a person may have approved kinds of calls."""
        self._spec = spec
        self._least: ApprovalPolicy | None = least
        self._journal = journal
        self._rules = self._read_rules()
        self._inputs = inputs
        self._workspace = workspace
        self._asking = asyncio.Lock()
        self._asked: dict[str, int] = {}
        """The turn whose questions have been asked, by agent path."""

    def _read_rules(self) -> ApprovalRules:
        recorded = self._journal.parts.recorded
        granted = [
            ApprovalRule.model_validate_json(each.grants)
            for each in recorded.resolutions.values()
            if each.grants and each.input_id not in recorded.revoked
        ]
        return ApprovalRules(self._spec.approval, self._least, granted)

    @property
    def decides_all(self) -> bool:
        """Whether every call runs without a look at it."""
        return self._rules.decides_all

    async def admit(self, context: RunContext[Any], scope: AgentScope, call: ToolCall) -> Admitted | Refused:
        """Whether a call runs, and with what; returns once that is decided."""
        as_asked = Admitted(call.arguments)
        if self._rules.decides_all:
            return as_asked
        recorded = self._journal.parts.recorded
        key = scope.coming_key(TOOL, call_key(scope.turn, call.call_id))
        has_begun = key in recorded.started
        if isinstance(recorded.results.get(key), ToolFinished):
            return as_asked
        if call.facts.side_effects and (not call.facts.runs_agents if has_begun else scope.is_uncertain):
            return as_asked  # it does not begin, or not again: whatever rules say now, nothing else is true
        if not has_begun and len(scope.calls) != 1:  # one call by itself is asked about as it comes
            await self._ask_ahead(context, scope)
        return await self._decided(context, scope, call, has_begun=has_begun)

    async def _decided(
        self, context: RunContext[Any], scope: AgentScope, call: ToolCall, *, has_begun: bool
    ) -> Admitted | Refused:
        again: str | None = None
        for nth in range(1, MAX_QUESTIONS + 1):
            place = StepKey(scope.path, *approval_key(scope.turn, call.call_id), nth)
            requested = self._journal.parts.recorded.inputs.get(place)
            if requested is None:
                decision = await self._decide(call)
                if again is None and decision.policy == "deny":
                    message = f"{NOT_CARRIED_OUT}: a rule denies it ({decision.reason})."
                    return Refused(ToolOutcome.DENIED, message)
                if again is None and decision.policy == "allow":
                    return Admitted(call.arguments)
                proposal = await self._propose(call, {})
                requested = await self._request(place, scope, call, decision, proposal, again)
            resolved = await self._resolution(place, requested)
            verdict = await self._verdict(context, call, requested, resolved, has_begun=has_begun)
            if not isinstance(verdict, str):
                return verdict
            again = verdict
        return Refused(ToolOutcome.DENIED, f"{NOT_CARRIED_OUT}: {again}.")

    async def _resolution(self, place: StepKey, requested: InputRequested) -> InputResolved:
        known = self._journal.parts.recorded.resolutions.get(requested.input_id)
        if known is not None:
            return known
        inner = (outer := running_call.get()) is not None and outer.is_step
        async with self._journal.parts.gate.step(inner=inner):
            return await self._inputs.resolution(place, requested)

    # --- asking -------------------------------------------------------------------------------

    async def _ask_ahead(self, context: RunContext[Any], scope: AgentScope) -> None:
        """Ask what is to be asked about the calls of an answer, all at once and in its order."""
        async with self._asking:
            if self._asked.get(scope.path) == scope.turn:
                return
            recorded = self._journal.parts.recorded
            decided = list[tuple[ToolCall, Decision]]()
            for asked in scope.calls.values():
                call = await _call_of(context, asked.call_id, asked.tool, asked.arguments)
                key = StepKey(scope.path, TOOL, call_key(scope.turn, asked.call_id), 1)
                if call is not None and key not in recorded.results and key not in recorded.started:
                    decided.append((call, await self._decide(call)))
            earlier: dict[str, Proposal] = {}
            is_any_asked = any(decision.policy == "ask" for _, decision in decided)
            for call, decision in decided if is_any_asked else ():
                proposal = await self._propose(call, earlier)
                if proposal is not None and decision.policy != "deny":
                    earlier[proposal.place] = proposal
                place = StepKey(scope.path, *approval_key(scope.turn, call.call_id), 1)
                if decision.policy == "ask" and place not in recorded.inputs:
                    await self._request(place, scope, call, decision, proposal, None)
            self._asked[scope.path] = scope.turn

    async def _decide(self, call: ToolCall) -> Decision:
        asked = ApprovalCall(
            toolset=call.toolset,
            tool=call.facts.own_name or call.tool,
            arguments=_plain(call.arguments),
            destructive=call.facts.side_effects,
            built_in=call.toolset in CATALOGUE,
        )
        decision = await decide(self._rules, asked, self._workspace)
        if not decision.is_granted:
            return decision
        # Somebody may have revoked it at this moment; such calls are few, and the question costs little.
        revoked = await self._journal.parts.log.revocations()
        if not revoked:
            return decision
        self._journal.parts.recorded.revoked.update(each.input_id for each in revoked)
        self._rules = self._read_rules()
        return await decide(self._rules, asked, self._workspace)

    async def _propose(self, call: ToolCall, earlier: Mapping[str, Proposal]) -> Proposal | None:
        if call.toolset != "files" or call.tool not in WRITING_TOOLS:
            return None
        return await self._workspace.soon(lambda files: propose(files, call.tool, call.arguments, earlier))

    async def _request(
        self,
        place: StepKey,
        scope: AgentScope,
        call: ToolCall,
        decision: Decision,
        proposal: Proposal | None,
        again: str | None,
    ) -> InputRequested:
        now, rule = self._journal.parts.waits.clock.now(), decision.rule
        arguments = _plain(call.arguments)
        content = Approval(
            toolset=call.toolset,
            tool=call.tool,
            arguments=arguments,
            rule=decision.rule_path,
            reason=decision.reason,
            diff=None if proposal is None else proposal.diff,
            base=None if proposal is None else proposal.base,
            kind_rule=None if decision.kind is None else decision.kind.model_dump_json(exclude_defaults=True),
            again=again,
        )
        return await self._inputs.request(
            place,
            scope,
            call.call_id,
            kind=InputKind.APPROVAL,
            toolset=call.toolset,
            tool=call.tool,
            title=f"{call.tool} {_main(arguments)}",
            content=content,
            expires_at=_after(now, rule and rule.expires_after),
            remind_at=_after(now, rule and rule.remind_after),
            on_expiry="deny" if rule is None else rule.on_expiry,
            escalate=rule and rule.escalate,
        )

    # --- deciding -----------------------------------------------------------------------------

    async def _verdict(
        self,
        context: RunContext[Any],
        call: ToolCall,
        requested: InputRequested,
        resolved: InputResolved,
        *,
        has_begun: bool,
    ) -> Admitted | Refused | str:
        """What follows from a resolution; a text: why it is asked again."""
        said = f" The person says: {resolved.reason}" if resolved.reason else ""
        match resolved.outcome:
            case InputOutcome.DENIED:
                return Refused(ToolOutcome.DENIED, f"{NOT_CARRIED_OUT}: a person denied it.{said}")
            case InputOutcome.EXPIRED if requested.on_expiry == "approve":
                note = "Nobody decided about this call in time; by its rule it ran all the same."
                return await self._admitted(call, call.arguments, requested, note, has_begun=has_begun)
            case InputOutcome.EXPIRED:
                return Refused(
                    ToolOutcome.EXPIRED,
                    f"{NOT_CARRIED_OUT}: its approval expired unanswered. Nobody denied it.",
                )
            case InputOutcome.APPROVED if resolved.arguments is not None:
                value = await self._journal.parts.bodies.load_value(resolved.arguments)
                changed = await _validated(context, call, value)
                if isinstance(changed, str):
                    return f"the arguments that the person gave do not fit the tool: {changed}"
                decision = await self._decide(replace(call, arguments=changed))
                if decision.policy == "deny":
                    return f"with the arguments that the person gave, {decision.reason} denies it"
                shown = json.dumps(value, ensure_ascii=False)[:MAX_SHOWN_ARGUMENTS]
                note = f"A person changed the call; it ran with these arguments: {shown}.{said}"
                return await self._admitted(call, changed, requested, note, has_begun=has_begun)
            case InputOutcome.APPROVED:
                return await self._admitted(
                    call, call.arguments, requested, said.strip() or None, has_begun=has_begun
                )
            case _:
                return "the execution had ended before anybody decided"

    async def _admitted(
        self,
        call: ToolCall,
        arguments: dict[str, Any],
        requested: InputRequested,
        note: str | None,
        *,
        has_begun: bool,
    ) -> Admitted | str:
        """A call of a file tool runs on the file that the person saw, which the write itself checks."""
        content = Approval.model_validate(await self._journal.parts.bodies.load_value(requested.content))
        if has_begun or content.base is None:
            return Admitted(arguments, note)
        now = await self._propose(replace(call, arguments=arguments), {})
        if now is None or now.base != content.base:
            return "the file has changed since it was asked"
        if arguments.get("expected_hash") is None and (call.tool == "write_file" or content.base != NO_FILE):
            arguments = {**arguments, "expected_hash": content.base}
        return Admitted(arguments, note)


async def _call_of(context: RunContext[Any], call_id: str, tool: str, written: JsonValue) -> ToolCall | None:
    """A call that the answer asks for; None where it cannot be executed."""
    manager = context.tool_manager
    found = None if manager is None or manager.tools is None else manager.tools.get(tool)
    if found is None:
        return None
    definition = found.tool_def
    call = ToolCall(call_id, tool, definition.toolset_id or "", {}, facts_of(definition))
    arguments = await _validated(context, call, written)
    return None if isinstance(arguments, str) else replace(call, arguments=arguments)


async def _validated(context: RunContext[Any], call: ToolCall, written: JsonValue) -> dict[str, Any] | str:
    """Arguments as the tool takes them; a text: why it does not."""
    manager = context.tool_manager
    found = None if manager is None or manager.tools is None else manager.tools.get(call.tool)
    if found is None:
        return "there is no such tool"
    try:
        if isinstance(written, str):
            arguments = found.args_validator.validate_json(written or "{}")
        else:
            arguments = found.args_validator.validate_python(written or {})
        if found.args_validator_func is not None:
            checked = found.args_validator_func(context, **arguments)
            if inspect.isawaitable(checked):
                await checked
        return arguments
    except ModelRetry as error:
        return error.message
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON, without what was left out."""
    dumped = _ARGUMENTS.dump_python(dict(arguments), mode="json")
    return {name: value for name, value in dumped.items() if value is not None}


def _main(arguments: Mapping[str, Any]) -> str:
    for name in ("command", "path", "url", "query", "name"):
        if isinstance(arguments.get(name), str):
            return str(arguments[name])
    return next((value for value in arguments.values() if isinstance(value, str)), "")


def _after(now: Any, duration: timedelta | None) -> Any:
    return None if duration is None else now + duration
