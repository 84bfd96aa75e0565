"""Gives an agent's runs the session's workspace, and the toolsets that its manifest names."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pydantic_ai.capabilities import ToolSearch
from pydantic_ai.messages import WorkspaceRef
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.tools import AgentNativeTool, RunContext
from pydantic_ai.toolsets import AbstractToolset, CombinedToolset, ToolsetTool, WrapperToolset
from pydantic_ai.workspaces import WorkspaceBackend

from agent_runner.toolsets.catalogue import CATALOGUE, DESCRIBED, ToolsetRequest, api_toolsets, toolsets_of
from agent_runner.toolsets.command_variables import ToolVariables
from agent_runner.toolsets.facts import DeclaredToolset
from agent_runner.toolsets.skills import SkillFolders
from agent_runner.toolsets.tool_search import ToolSearching
from agent_runner.workspace import PackFolders, SessionWorkspace
from stigmer_contract.errors import PackError
from stigmer_contract.manifest import AgentSpec


def session_tools(
    spec: AgentSpec,
    workspace: SessionWorkspace,
    variables: ToolVariables | None = None,
    packs: PackFolders | None = None,
    further: Sequence[AbstractToolset[None]] = (),
    searching: ToolSearching | None = None,
) -> "SessionTools":
    """What gives an agent's runs the session's workspace, and the toolsets that its spec names.

    `variables` are for the toolsets that take secrets alone. `packs` are needed where the spec names any.
    `further` toolsets stand behind these. With `searching` some are found by search.
    """
    packs = packs or PackFolders(workspace.directory.parent, _no_blobs)
    request = ToolsetRequest(spec, workspace, variables or ToolVariables(), packs, SkillFolders(spec, packs))
    toolsets = list[AbstractToolset[None]]()
    for name in toolsets_of(spec):
        entry = CATALOGUE[name]
        made = entry.make(request if entry.takes_secrets else replace(request, variables=ToolVariables()))
        toolsets.append(DeclaredToolset(made, entry.facts_of))
    for described in DESCRIBED.values():
        if described.is_wanted(spec):
            facts = functools.partial(described.facts_of, spec)
            toolsets.append(DeclaredToolset(described.make(request), facts))
    toolsets += api_toolsets(request)
    if searching is not None:
        toolsets.append(searching.toolset)
    return SessionTools(workspace=workspace, toolsets=[*toolsets, *further], searching=searching)


async def _no_blobs(sha256: str) -> bytes:
    raise PackError("it is not here")


@dataclass(kw_only=True)
class SessionTools(ToolSearch[None]):
    """The workspace of a run and the tools that work in it.

    One capability for all of that, and in the place of the search for deferred tools, which pydantic-ai
    (2.62) gives to every agent that has none (ours is a toolset, see `tool_search`): every hook of every
    capability is called, so that each costs some 4 ms of processor time in an execution of ten tool calls
    (2026-11).
    """

    workspace: SessionWorkspace
    toolsets: Sequence[AbstractToolset[None]]
    searching: ToolSearching | None = None
    id: str | None = "session"

    def get_workspace(self, ctx: RunContext[None], *, ref: WorkspaceRef | None) -> WorkspaceBackend | None:
        """The session's workspace, which is also where the session's earlier executions worked."""
        return self.workspace if ref is None or ref == self.workspace.ref else None

    def get_toolset(self) -> AbstractToolset[None] | None:
        """All toolsets as one."""
        return SettledToolset(CombinedToolset(self.toolsets), self.searching) if self.toolsets else None

    def get_native_tools(self) -> Sequence[AgentNativeTool[None]]:
        """None: no provider searches; an answer of ours names what was found."""
        return ()

    def get_wrapper_toolset(self, toolset: AbstractToolset[None]) -> AbstractToolset[None]:
        """The agent's tools as they are."""
        return toolset

    async def before_model_request(
        self, ctx: RunContext[None], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """The request as it is."""
        return request_context


@dataclass
class SettledToolset(WrapperToolset[None]):
    """Lists its tools once for a run: they do not change, and listing them takes 0.5 ms a turn (2026-11)."""

    searching: ToolSearching | None = None
    _listed: dict[str, ToolsetTool[None]] | None = field(default=None, init=False, repr=False)

    async def get_tools(self, ctx: RunContext[None]) -> dict[str, ToolsetTool[None]]:
        """The tools by name, as they were at the run's first turn."""
        if self._listed is None:
            listed = await super().get_tools(ctx)
            self._listed = listed if self.searching is None else await self.searching.arrange(listed)
        return dict(self._listed)
