"""Hangs the journal into pydantic-ai through its public extension point for durable execution.

Written against `pydantic_ai.durable_exec` 2.62. Which step is done and which is looked up is decided in
`steps` and beside it; here it is only recognised what pydantic-ai is about to do. Its union of operations
grows in minor releases: what is not recognised is journalled as an operation, and so never done twice.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final, Literal, cast

from pydantic import JsonValue
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.capabilities import (
    AbstractCapability,
    AgentNode,
    CombinedCapability,
    NodeResult,
    WrapToolExecuteHandler,
)
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    CapabilityOperationId,
    DurabilityEngineSpec,
    DurableOperationId,
    EventStreamHandlerId,
    JournalCallableOperationBackend,
    ModelRequestId,
    RoleBasedOperationConfig,
    ToolsetCallToolId,
    ToolsetGetToolsId,
    WorkspaceCall,
)
from pydantic_ai.messages import ModelRequest, ToolCallPart, UserPromptPart
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool
from pydantic_graph import End

from agent_runner.journal.approvals import Approvals, Refused
from agent_runner.journal.compacting import CompactionRules, CompactSteps
from agent_runner.journal.fingerprints import digest_of_arguments
from agent_runner.journal.kinds import OPERATION, TOOLS_LISTED
from agent_runner.journal.messages import MessageSteps
from agent_runner.journal.model_steps import ModelSteps, OpenRequest
from agent_runner.journal.notes import NoteSteps
from agent_runner.journal.results import dump_error, dump_return, play
from agent_runner.journal.steps import StepJournal
from agent_runner.journal.tool_steps import ToolCall, ToolSteps, told_besides
from agent_runner.toolsets import OrderedToolset, ToolFacts, facts_of

REPEATED: Final = {
    "event stream handler": "shows what happens to whoever watches this leg; nothing follows from it",
    "workspace ensure": "opens the session's directory in this process, which each leg has to do anew",
}
"""The operations that are done again by each leg, and why. All others are journalled."""

_Body = Callable[[], Awaitable[JsonValue]]


class _JournalBackend(JournalCallableOperationBackend[None]):
    """Sends each durable operation of an agent to the journal."""

    def __init__(
        self,
        steps: StepJournal,
        models: ModelSteps,
        tools: ToolSteps,
        *,
        agent_name: str,
        model_id: str | None,
    ) -> None:
        super().__init__(
            agent_name=agent_name,
            default_model_id=model_id,
            config=RoleBasedOperationConfig[None](
                model=None, event=None, capability=None, tool=None, resolve_tool=_inline_if_it_runs_agents
            ),
        )
        self._steps = steps
        self._models = models
        self._tools = tools
        self._agent_name = agent_name

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: None,
    ) -> object:
        if _is_repeated(operation_id, cache_key):
            return await body()
        do = cast("_Body", body)
        context = _run_context(cache_key)
        run_id = cache_key[-1] if context is None and cache_key else context and context.run_id
        scope = self._steps.scopes.of(run_id if isinstance(run_id, str) else None, self._agent_name)
        match operation_id:
            case ModelRequestId():
                # The key's shape is that of `_ModelRequestCacheIdentity`.
                _, messages, settings, parameters, _ = cast("tuple[Any, ...]", cache_key)
                assert context is not None
                request = OpenRequest(messages, settings, parameters, context.messages)
                return await self._models.answer(scope, context.run_step, request, do)
            case ToolsetCallToolId(toolset_id=toolset):
                # Here it is that of `_FunctionCallToolCacheIdentity`: name, arguments, context, tool.
                tool_name, arguments, _, tool = cast("tuple[Any, ...]", cache_key)
                assert context is not None
                call = _call(context, tool_name, toolset, arguments, _facts(tool))
                return await self._tools.result(scope, call, do)
            case ToolsetGetToolsId(toolset_id=toolset):
                return await self._steps.step(scope, TOOLS_LISTED, toolset, do)
            case _:
                arguments = [each for each in cache_key if each is not context and each != run_id]
                # Without the agent's name, which stands in its path.
                key = name.removeprefix(f"{self._agent_name}__")
                digest = digest_of_arguments(arguments)
                return await self._steps.step(scope, OPERATION, key, do, digest=digest)


class JournalDurability(BaseDurabilityCapability[None]):
    """Makes an agent's runs replay from, and append to, one execution's journal.

    One instance per leg; agents that tools run get it, too, and each of their runs is known by its path.
    """

    engine_spec: ClassVar[DurabilityEngineSpec] = DurabilityEngineSpec(
        engine_name="Stigmer",
        durable_unit_noun="step",
        durable_container_noun="leg",
        codec=JSON_CODEC,
        wrapped_toolset_kinds=frozenset({"function", "mcp"}),
        toolset_lifecycles={"function": "enter-never", "mcp": "enter-in-durable-unit"},
        unsupported_runtime_toolset_kinds=frozenset({"dynamic"}),
    )

    def __init__(
        self,
        steps: StepJournal,
        model_reference: str,
        notes: NoteSteps | None = None,
        compaction: CompactionRules | None = None,
        messages: MessageSteps | None = None,
        approvals: Approvals | None = None,
    ) -> None:
        """`model_reference` is `provider:name` of the agent's model, for the log; while it works it is told
        `notes` by us, and `messages` by the person; `compaction` is how its conversation is kept below the
        model's window, if at all. Without `approvals` every call runs."""
        super().__init__()
        self._approvals = approvals
        self._steps = steps
        self._notes = notes
        self._messages = messages
        self._models = ModelSteps(steps, model_reference, compaction and CompactSteps(steps, compaction))
        self._tools = ToolSteps(steps)

    def for_agent(self, agent: AbstractAgent[None, Any]) -> AbstractCapability[None]:
        """Bind to the agent, without the companion that makes a workspace first: a session's is there."""
        bound = super().for_agent(agent)
        if isinstance(bound, CombinedCapability):
            [bound] = [each for each in bound.capabilities if isinstance(each, JournalDurability)]
        return bound

    @property
    def in_durable_context(self) -> bool:
        """Always: the agent is built for one leg and used nowhere else."""
        return True

    def get_durable_operation_backend(self) -> _JournalBackend:
        """The journal, under the bound agent's name."""
        return _JournalBackend(
            self._steps, self._models, self._tools, agent_name=self.name, model_id=self.default_model_id
        )

    def get_wrapper_toolset(self, toolset: AbstractToolset[None]) -> AbstractToolset[None] | None:
        """The agent's tools as steps, in their order."""
        return OrderedToolset(super().get_wrapper_toolset(toolset) or toolset)

    async def before_run(self, ctx: RunContext[None]) -> None:
        """Name the run, in the order in which runs begin."""
        await super().before_run(ctx)
        self._steps.scopes.of(ctx.run_id, self.name)

    async def before_model_request(
        self, ctx: RunContext[None], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """The request with what is said at its end, which stays in the conversation: messages, and a note."""
        scope = self._steps.scopes.of(ctx.run_id, self.name)
        if scope.path:
            return request_context
        if scope.before.take_from(ctx.messages):
            request_context.messages = list(ctx.messages)
        turn = scope.turns_before + ctx.run_step
        if self._messages is not None:
            _add(ctx, request_context, await self._messages.due(turn))
        if self._notes is not None:
            note = await self._notes.due(turn, [*scope.before.messages, *request_context.messages])
            _add(ctx, request_context, [] if note is None else [note])
        return request_context

    async def after_node_run(
        self, ctx: RunContext[None], *, node: "AgentNode[None]", result: "NodeResult[None]"
    ) -> "NodeResult[None]":
        """The result; where the person said something meanwhile, pydantic-ai lets a turn follow on that."""
        scope = self._steps.scopes.of(ctx.run_id, self.name)
        if self._messages is not None and not scope.path and isinstance(result, End):
            ctx.enqueue(*await self._messages.due(scope.turns_before + ctx.run_step + 1))
        return result

    async def wrap_tool_execute(
        self,
        ctx: RunContext[None],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: dict[str, Any],
        handler: WrapToolExecuteHandler,
    ) -> Any:
        """Decide whether a call runs. One that runs agents is written down around it: it is no durable unit,
        or pydantic-ai would run what they do as parts of one, and not as steps."""
        facts = facts_of(tool_def)
        if self._approvals is not None:
            scope = self._steps.scopes.of(ctx.run_id, self.name)
            step = _call(ctx, call.tool_name, tool_def.toolset_id or "", args, facts)
            verdict = await self._approvals.admit(ctx, scope, step)
            if isinstance(verdict, Refused):
                return play(await self._tools.refuse(scope, step, verdict.outcome, verdict.message))
            args = verdict.arguments
            told_besides.set(verdict.note)
        if not facts.runs_agents:
            return await handler(args)

        async def run() -> JsonValue:
            try:
                return dump_return(await handler(args))
            except Exception as error:
                if (told := dump_error(error)) is None:
                    raise
                return told

        scope = self._steps.scopes.of(ctx.run_id, self.name)
        step = _call(ctx, call.tool_name, tool_def.toolset_id or "", args, facts)
        return play(await self._tools.result(scope, step, run))


def _add(
    ctx: RunContext[None], request_context: ModelRequestContext, parts: Sequence[UserPromptPart]
) -> None:
    """Put parts at the end of a request, which stay in the conversation."""
    messages = request_context.messages
    last = messages[-1]
    if not parts or not isinstance(last, ModelRequest):
        return
    extended = replace(last, parts=[*last.parts, *parts])
    request_context.messages = [*messages[:-1], extended]
    if ctx.messages and ctx.messages[-1] is last:
        ctx.messages[-1] = extended


def _run_context(cache_key: tuple[object, ...]) -> RunContext[Any] | None:
    for each in cache_key:
        if isinstance(each, RunContext):
            return cast("RunContext[Any]", each)
    return None


def _is_repeated(operation_id: DurableOperationId, cache_key: tuple[object, ...]) -> bool:
    """Whether the operation is one of `REPEATED`."""
    match operation_id:
        case EventStreamHandlerId():
            return True
        case CapabilityOperationId(capability_id="workspace", operation="call"):
            return any(isinstance(each, WorkspaceCall) and each.method == "ensure" for each in cache_key)
        case _:
            return False


def _inline_if_it_runs_agents(
    operation_id: DurableOperationId, tool: object | None, tool_name: str
) -> Literal[False] | None:
    """pydantic-ai's configuration of a tool; False: its calls are no durable units."""
    is_call = isinstance(operation_id, ToolsetCallToolId)
    return False if is_call and _facts(tool).runs_agents else None


def _facts(tool: object) -> ToolFacts:
    """What the toolset says of a tool that comes from pydantic-ai."""
    match tool:
        case ToolsetTool():
            return facts_of(cast("ToolsetTool[None]", tool).tool_def)
        case ToolDefinition():
            return facts_of(tool)
        case _:
            return ToolFacts(side_effects=True)


def _call(
    context: RunContext[Any], tool: str, toolset: str, arguments: dict[str, Any], facts: ToolFacts
) -> ToolCall:
    call_id = context.tool_call_id or f"{tool}-without-id"
    return ToolCall(call_id=call_id, tool=tool, toolset=toolset, arguments=arguments, facts=facts)
