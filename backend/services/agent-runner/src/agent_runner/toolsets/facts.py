"""What toolsets say of their tools, and the order that follows. Goes by the toolset, never by a name."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import ToolsetTool, WrapperToolset


@dataclass(frozen=True)
class ToolFacts:
    """What a toolset says of one of its tools. Of a tool that nobody says anything of, the worst holds."""

    side_effects: bool = True
    """Whether a call may change anything: it does not silently run twice, and runs alone, in its place among
    the calls of an answer."""
    runs_agents: bool = False
    """Whether a call runs agents, whose steps are steps themselves: cut off, it begins again, and what they
    had done is looked up."""
    waits: bool = False
    """Whether a call does nothing but wait, for as long as it likes."""
    may_repeat: bool = False
    """Whether a call that changes something may be made again where nobody knows what became of it."""
    own_name: str | None = None
    """What rules and people call the tool in its toolset, where the model knows it by another name."""

    @property
    def takes_its_time(self) -> bool:
        """Whether `limits.toolTimeout` does not hold: the inner steps of agents have limits of their own."""
        return self.runs_agents or self.waits


_FACTS: Final = "stigmer"
"""Key of `ToolFacts` in a tool definition's metadata, which the model does not see."""


def facts_of(tool: ToolDefinition) -> ToolFacts:
    """What the tool's toolset says of it."""
    facts = (tool.metadata or {}).get(_FACTS)
    return facts if isinstance(facts, ToolFacts) else ToolFacts()


@dataclass
class DeclaredToolset(WrapperToolset[None]):
    """A toolset that says what its tools do. That goes by the toolset, never by a tool's bare name."""

    declare: Callable[[str], ToolFacts]
    """By the tool's name in this toolset."""

    @property
    def id(self) -> str | None:
        """The toolset's own."""
        return self.wrapped.id

    async def get_tools(self, ctx: RunContext[None]) -> dict[str, ToolsetTool[None]]:
        """The tools with what is said of them."""
        return {
            name: replace(tool, tool_def=self._declared(tool.tool_def))
            for name, tool in (await super().get_tools(ctx)).items()
        }

    def _declared(self, tool: ToolDefinition) -> ToolDefinition:
        return replace(tool, metadata={**(tool.metadata or {}), _FACTS: self.declare(tool.name)})


@dataclass
class OrderedToolset(WrapperToolset[None]):
    """All of an agent's tools, of which those that change anything run alone.

    pydantic-ai runs such a call after those that the answer asks for before it, and before those after it;
    the others of an answer run side by side.
    """

    _ordered: dict[int, tuple[ToolsetTool[None], ToolsetTool[None]]] = field(
        default_factory=dict[int, tuple[ToolsetTool[None], ToolsetTool[None]]], init=False, repr=False
    )

    async def get_tools(self, ctx: RunContext[None]) -> dict[str, ToolsetTool[None]]:
        """The tools by name. The same tool is the same object again, which saves looking into it."""
        return {name: self._in_order(tool) for name, tool in (await super().get_tools(ctx)).items()}

    def _in_order(self, tool: ToolsetTool[None]) -> ToolsetTool[None]:
        facts = facts_of(tool.tool_def)
        # Agents of one answer may work side by side: the steps of each keep an order of their own.
        if tool.tool_def.sequential or not facts.side_effects or facts.runs_agents:
            return tool
        known = self._ordered.get(id(tool))
        if known is None or known[0] is not tool:
            known = (tool, replace(tool, tool_def=replace(tool.tool_def, sequential=True)))
            self._ordered[id(tool)] = known
        return known[1]
