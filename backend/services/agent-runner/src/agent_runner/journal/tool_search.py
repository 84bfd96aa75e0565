"""Which tools of an execution are found by search: chosen once by their size, and written down.

The choice goes by the window of a model, which a later leg may know otherwise; what was chosen holds for it,
too, or a search that the log has would be a call of a tool that is not there.
"""

from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from agent_runner.journal.fingerprints import digest_of
from agent_runner.journal.kinds import MODEL, TOOL_SEARCH, TOOLS_LISTED, StepKey
from agent_runner.journal.steps import StepJournal
from agent_runner.models import BuiltModel, ContextWindows, ReplayModel
from agent_runner.toolsets.tool_search import OfferedTools, SearchChoice, ToolSearching, toolsets_that_fit
from stigmer_contract.api import LegGrant
from stigmer_contract.events import StepFinished
from stigmer_contract.manifest import AgentSpec
from stigmer_contract.manifest_scripts import SEARCH_TOOL

_PLACE: Final = StepKey("", TOOLS_LISTED, TOOL_SEARCH, 1)


def tool_searching(
    journal: StepJournal, grant: LegGrant, built: BuiltModel, windows: ContextWindows
) -> ToolSearching | None:
    """The search of an execution's agent; None: it has no tools that could be searched for."""
    names = searchable_toolsets(grant.spec)
    if not names or grant.spec.context.tool_search_at == 1:
        return None
    return ToolSearching(names, _Choices(journal, grant, built, windows).choose)


def searchable_toolsets(spec: AgentSpec) -> list[str]:
    """Names of the toolsets that somebody else wrote: their number of tools is theirs to choose."""
    return [*(server.name for server in spec.mcp_servers), *(api.name for api in spec.openapi)]


class _Choices:
    def __init__(
        self, journal: StepJournal, grant: LegGrant, built: BuiltModel, windows: ContextWindows
    ) -> None:
        self._journal = journal
        self._grant = grant
        self._built = built
        self._windows = windows

    async def choose(self, own_tokens: int, offered: Sequence[OfferedTools]) -> SearchChoice:
        """What was chosen, else what is now."""
        parts = self._journal.parts
        known = parts.recorded.results.get(_PLACE)
        if isinstance(known, StepFinished) and known.result is not None:
            return _choice_of(await parts.bodies.load_value(known.result))
        has_begun = self._grant.resumption is not None or StepKey("", MODEL, "1", 1) in parts.recorded.results
        if has_begun:
            return SearchChoice()
        choice = await self._choose(own_tokens, offered)
        if choice.toolsets:
            value: JsonValue = {"toolsets": [*sorted(choice.toolsets)], "hides": choice.hides}
            self._journal.write(
                StepFinished(
                    kind=TOOLS_LISTED,
                    key=TOOL_SEARCH,
                    digest=digest_of(value),
                    result=await parts.bodies.store_value(value),
                    duration_seconds=0.0,
                ),
                more_follows=True,
            )
        return choice

    async def _choose(self, own_tokens: int, offered: Sequence[OfferedTools]) -> SearchChoice:
        context, model = self._grant.spec.context, self._built.model
        window = await self._windows.of(model, self._built.reference, context.window)
        tokens = context.window if window is None else window.tokens
        names = frozenset(each.name for each in offered)
        if tokens is None:
            # A recording was made with a model whose window nobody knows here; it shows whether it searched.
            searches = isinstance(model, ReplayModel) and SEARCH_TOOL in model.called_tools
            return SearchChoice(names if searches else frozenset(), hides=False)
        most_tokens = int(tokens * context.tool_search_at)
        if own_tokens + sum(each.tokens for each in offered) <= most_tokens:
            return SearchChoice()
        return SearchChoice(names - toolsets_that_fit(own_tokens, offered, most_tokens))


def _choice_of(value: JsonValue) -> SearchChoice:
    fields = value if isinstance(value, dict) else {}
    names = fields.get("toolsets")
    listed = names if isinstance(names, list) else []
    return SearchChoice(frozenset(map(str, listed)), hides=fields.get("hides") is not False)
