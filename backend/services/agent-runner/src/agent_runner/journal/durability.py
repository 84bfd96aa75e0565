"""Hangs the journal into pydantic-ai through its public extension point for durable execution.

Written against `pydantic_ai.durable_exec` 2.62. Which step is done and which is looked up is decided in
`steps`; here it is only recognised what pydantic-ai is about to do.
"""

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, cast

from pydantic import JsonValue
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.capabilities import AbstractCapability, CombinedCapability
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    DurabilityEngineSpec,
    DurableOperationId,
    JournalCallableOperationBackend,
    ModelCompactMessagesId,
    ModelRequestId,
    RoleBasedOperationConfig,
    ToolsetCallToolId,
)
from pydantic_ai.tools import RunContext

from agent_runner.journal.steps import StepJournal, ToolCall

SideEffects = Callable[[str | None, str], bool]
"""Whether a tool changes anything, by the id of its toolset and its name."""


class _JournalBackend(JournalCallableOperationBackend[None]):
    """Sends each durable operation of the agent to the journal, or straight on where it needs none."""

    def __init__(
        self, steps: StepJournal, has_side_effects: SideEffects, *, agent_name: str, model_id: str | None
    ) -> None:
        super().__init__(
            agent_name=agent_name,
            default_model_id=model_id,
            config=RoleBasedOperationConfig[None](model=None, event=None, capability=None, tool=None),
        )
        self._steps = steps
        self._has_side_effects = has_side_effects

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: None,
    ) -> object:
        match operation_id:
            case ModelRequestId() | ModelCompactMessagesId():
                return await self._steps.model_step(cast("Callable[[], Awaitable[JsonValue]]", body))
            case ToolsetCallToolId():
                # The key's shape is that of `_FunctionCallToolCacheIdentity`: name, arguments, context, tool.
                tool, arguments, context = cache_key[:3]
                assert isinstance(tool, str)
                assert isinstance(context, RunContext)
                call = ToolCall(
                    call_id=context.tool_call_id or f"{tool}-without-id",
                    tool=tool,
                    arguments=cast("dict[str, Any]", arguments),
                    side_effects=self._has_side_effects(operation_id.toolset_id, tool),
                )
                return await self._steps.tool_step(call, cast("Callable[[], Awaitable[JsonValue]]", body))
            case _:
                # Discovery, argument checks, events and the workspace's `ensure` change nothing: done again.
                return await body()


class JournalDurability(BaseDurabilityCapability[None]):
    """Makes an agent's run replay from, and append to, one execution's journal. One instance per leg."""

    engine_spec: ClassVar[DurabilityEngineSpec] = DurabilityEngineSpec(
        engine_name="Stigmer",
        durable_unit_noun="step",
        durable_container_noun="leg",
        codec=JSON_CODEC,
        wrapped_toolset_kinds=frozenset({"function", "mcp"}),
        toolset_lifecycles={"function": "enter-never", "mcp": "enter-in-durable-unit"},
        unsupported_runtime_toolset_kinds=frozenset({"dynamic"}),
    )

    def __init__(self, steps: StepJournal, has_side_effects: SideEffects) -> None:
        """`has_side_effects` tells which tools are written down before they run."""
        super().__init__()
        self._steps = steps
        self._has_side_effects = has_side_effects

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
            self._steps, self._has_side_effects, agent_name=self.name, model_id=self.default_model_id
        )
