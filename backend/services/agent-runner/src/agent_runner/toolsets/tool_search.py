"""The search for tools: an agent that has more of them than it is to be shown finds the others by words.

How a tool that was found is told to a model is pydantic-ai's matter (2.62): a deferred tool is shown once a
result of the search names it, in the way that leaves the beginning of the prompt as it was where the provider
has one. The search itself is ours: a call like any other, approved, written down and played again from the
log. pydantic-ai's own runs around the toolsets, where no journal sees it.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic_ai.exceptions import ModelRetry
from pydantic_ai.messages import ToolSearchReturnPart
from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import FunctionToolset, ToolsetTool

from agent_runner.toolsets.facts import DeclaredToolset, ToolFacts, facts_of
from agent_runner.toolsets.tool_index import IndexedTool, ToolIndex
from agent_runner.toolsets.tool_sizes import tokens_of_tool
from stigmer_contract.manifest_scripts import SEARCH_TOOL

SEARCH_TOOLSET: Final = "tool_search"
MAX_FOUND: Final = 10
CATALOGUE_CHARACTERS: Final = 2000
"""Of the names of tools that are not shown: what the description of the search grows to at most."""
_DESCRIPTION: Final = (
    "Finds tools that you have and are not shown yet, by words of what they are named or described with. "
    "What is found can be called from your next answer on. Search before you say that something cannot be "
    "done. "
    "Not shown yet are:\n{catalogue}"
)
_NOTHING_FOUND: Final = (
    "No tool fits these words. Try others, or the names of tools in the description of this one."
)


@dataclass(frozen=True)
class OfferedTools:
    """A toolset whose tools may be hidden until they are searched for."""

    name: str
    tools: int
    tokens: int
    """What its tools take of each request, estimated."""


@dataclass(frozen=True)
class SearchChoice:
    """Which tools are searched for."""

    toolsets: frozenset[str] = frozenset()
    """By their names; empty: none, and there is no search."""
    hides: bool = True
    """Whether they are hidden until then."""


Choose = Callable[[int, Sequence[OfferedTools]], Awaitable[SearchChoice]]
"""Chooses by the tokens of the agent's own tools, and what else is offered; asked once for each run."""


def toolsets_that_fit(own_tokens: int, offered: Sequence[OfferedTools], most_tokens: int) -> frozenset[str]:
    """Names of the toolsets that are shown: the smallest ones, as many as fit beside the agent's own tools.

    A toolset is shown as a whole or not at all. Where only one is too much, that one is searched.
    """
    shown, total = set[str](), own_tokens
    for each in sorted(offered, key=lambda each: (each.tokens, each.name)):
        total += each.tokens
        if total > most_tokens:
            break
        shown.add(each.name)
    return frozenset(shown)


class ToolSearching:
    """The search of one agent's runs."""

    def __init__(self, toolsets: Collection[str], choose: Choose) -> None:
        """`toolsets` are those that may be searched, by name."""
        self._searchable = frozenset(toolsets)
        self._choose = choose
        self._searched = list[ToolDefinition]()
        self._index: ToolIndex | None = None
        """Made by the first search of a leg: of 500 tools that takes some 60 ms (2026-11)."""
        self._made = FunctionToolset[None](id=SEARCH_TOOLSET)
        self._made.add_function(self._search, takes_ctx=True, name=SEARCH_TOOL)

    @property
    def toolset(self) -> DeclaredToolset:
        """The tool that searches; it stands among the agent's toolsets, so that its calls are steps."""
        return DeclaredToolset(self._made, lambda _: ToolFacts(side_effects=False))

    async def arrange(self, tools: Mapping[str, ToolsetTool[None]]) -> dict[str, ToolsetTool[None]]:
        """All tools of the agent, those that are to be searched for being deferred."""
        search = tools[SEARCH_TOOL]
        others = {name: tool for name, tool in tools.items() if tool is not search}
        offered = dict[str, list[ToolDefinition]]()
        own_tokens = 0
        for tool in others.values():
            if (toolset := tool.tool_def.toolset_id or "") in self._searchable:
                offered.setdefault(toolset, []).append(tool.tool_def)
            else:
                own_tokens += tokens_of_tool(tool.tool_def)
        sizes = [
            OfferedTools(name, len(each), sum(map(tokens_of_tool, each))) for name, each in offered.items()
        ]
        choice = await self._choose(own_tokens, sizes)
        searched = {name: each for name, each in offered.items() if name in choice.toolsets}
        if not searched:
            return others
        self._searched = [each for several in searched.values() for each in several]
        self._index = None
        if choice.hides:
            others = {name: _deferred(tool, choice.toolsets) for name, tool in others.items()}
        told = replace(
            search.tool_def,
            description=_DESCRIPTION.format(catalogue=catalogue_of(searched)),
            tool_kind=ToolSearchReturnPart.tool_kind,
        )
        return {SEARCH_TOOL: replace(search, tool_def=told), **others}

    async def _search(self, ctx: RunContext[None], queries: list[str]) -> dict[str, Any]:
        """Find tools.

        Args:
            queries: Words of what is to be done, such as `create issue`; what fits any of them is found.
        """
        if not any(query.strip() for query in queries):
            raise ModelRetry("Give words to search for.")
        if self._index is None:
            self._index = ToolIndex(list(map(_indexed, self._searched)))
        found = self._index.find(queries, MAX_FOUND, last=ctx.discovered_tool_names)
        if not found:
            return {"discovered_tools": [], "message": _NOTHING_FOUND}
        return {"discovered_tools": [{"name": name} for name in found]}


def catalogue_of(searched: Mapping[str, Sequence[ToolDefinition]]) -> str:
    """The toolsets and, as far as there is room, names of their tools; the same text for the same tools."""
    room = CATALOGUE_CHARACTERS // max(1, len(searched))
    lines = list[str]()
    for toolset, tools in searched.items():
        names, used = list[str](), 0
        for name in (_own_name(tool) for tool in tools):
            used += len(name) + 2
            if used > room:
                break
            names.append(name)
        more = len(tools) - len(names)
        if more:
            names.append(f"{more} more" if names else f"{more} tools")
        lines.append(f"- {toolset}: {', '.join(names)}")
    return "\n".join(lines)


def _own_name(tool: ToolDefinition) -> str:
    return facts_of(tool).own_name or tool.name


def _indexed(tool: ToolDefinition) -> IndexedTool:
    properties: dict[str, object] = tool.parameters_json_schema.get("properties") or {}
    names = tuple(properties)
    return IndexedTool(tool.name, _own_name(tool), tool.description or "", names)


def _deferred(tool: ToolsetTool[None], toolsets: Collection[str]) -> ToolsetTool[None]:
    if tool.tool_def.toolset_id not in toolsets:
        return tool
    return replace(tool, tool_def=replace(tool.tool_def, defer_loading=True))
