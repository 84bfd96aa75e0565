"""The toolsets that a manifest may name: how each is made, what it may change, and what it needs.

Whoever adds one adds a file beside this one and an entry here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic_ai.toolsets import AbstractToolset

from agent_runner.toolsets.ask_user import ASK_TOOL, ask_user_toolset
from agent_runner.toolsets.client_tools import CLIENT_TOOLSET, client_toolset
from agent_runner.toolsets.command_variables import ToolVariables
from agent_runner.toolsets.facts import ToolFacts
from agent_runner.toolsets.files import READING_TOOLS, files_toolset
from agent_runner.toolsets.openapi import openapi_toolset
from agent_runner.toolsets.scripts import script_facts, scripts_toolset
from agent_runner.toolsets.shell import shell_toolset
from agent_runner.toolsets.skills import SKILL_TOOLS, SkillFolders, skills_toolset
from agent_runner.toolsets.wait import WAIT_TOOL, wait_toolset
from agent_runner.toolsets.web import WEB_TOOLS, web_toolset
from agent_runner.workspace import PackFolders, SessionWorkspace
from stigmer_contract.manifest import AgentSpec


@dataclass(frozen=True)
class ToolsetRequest:
    """What a toolset is made for."""

    spec: AgentSpec
    workspace: SessionWorkspace
    variables: ToolVariables
    """What the manifest puts into the environment of what is started; may hold secrets."""
    packs: PackFolders
    """Where the files are that were packed with the manifest."""
    skills: SkillFolders


@dataclass(frozen=True)
class ToolsetEntry:
    """One toolset of the catalogue."""

    make: Callable[[ToolsetRequest], AbstractToolset[None]]
    """Cheap, and called for every leg. The id of what it makes is the entry's name."""
    reading_tools: frozenset[str]
    """The tools that change nothing, and so may silently run again. All others have side effects."""
    takes_secrets: bool
    """Whether `variables`, and so secrets, reach it."""
    starts_processes: bool
    """Whether a call may start something, which the workspace then ends with the call."""
    waits: bool = False
    """Whether its calls do nothing but wait."""

    def facts_of(self, tool: str) -> ToolFacts:
        """What is said of a tool by its name in this toolset."""
        return ToolFacts(side_effects=tool not in self.reading_tools, waits=self.waits)


CATALOGUE: Final[Mapping[str, ToolsetEntry]] = {
    "shell": ToolsetEntry(
        make=lambda request: shell_toolset(
            request.spec.limits.tool_timeout.total_seconds(),
            request.workspace.warning,
            request.variables.commands,
            request.skills if request.spec.skills else None,
        ),
        reading_tools=frozenset(),
        takes_secrets=True,
        starts_processes=True,
    ),
    "files": ToolsetEntry(
        make=lambda request: files_toolset(),
        reading_tools=READING_TOOLS,
        takes_secrets=False,
        starts_processes=True,  # ripgrep
    ),
    "web": ToolsetEntry(
        make=lambda request: web_toolset(
            request.spec.web,
            request.variables.headers.get("web", {}),
            request.spec.limits.tool_timeout.total_seconds(),
            request.variables.web_hosts,
        ),
        reading_tools=WEB_TOOLS,
        takes_secrets=True,  # of searches
        starts_processes=False,
    ),
    "ask_user": ToolsetEntry(
        make=lambda request: ask_user_toolset(),
        reading_tools=frozenset({ASK_TOOL}),
        takes_secrets=False,
        starts_processes=False,
        waits=True,
    ),
    "wait": ToolsetEntry(
        make=lambda request: wait_toolset(),
        reading_tools=frozenset({WAIT_TOOL}),
        takes_secrets=False,
        starts_processes=False,
        waits=True,
    ),
}
"""By the name that manifests use; `ask_user` is given by `spec.askUser`."""


def toolsets_of(spec: AgentSpec) -> list[str]:
    """The names of the toolsets of the catalogue that an agent has."""
    return [*spec.tools, *(["ask_user"] if spec.ask_user else [])]


def api_toolsets(request: ToolsetRequest) -> list[AbstractToolset[None]]:
    """The toolsets of an agent's APIs, one for each: rules and logs tell by its name whose a tool is."""
    variables, seconds = request.variables, request.spec.limits.tool_timeout.total_seconds()
    return [
        openapi_toolset(api, request.packs, variables.headers.get(api.name, {}), seconds, variables.web_hosts)
        for api in request.spec.openapi
    ]


@dataclass(frozen=True)
class DescribedEntry:
    """A toolset whose tools the manifest describes itself."""

    is_wanted: Callable[[AgentSpec], bool]
    make: Callable[[ToolsetRequest], AbstractToolset[None]]
    """Cheap, and called for every leg. The id of what it makes is the entry's name."""
    facts_of: Callable[[AgentSpec, str], ToolFacts]
    """What is said of a tool by its name in this toolset."""


DESCRIBED: Final[Mapping[str, DescribedEntry]] = {
    "scripts": DescribedEntry(
        is_wanted=lambda spec: bool(spec.scripts),
        make=lambda request: scripts_toolset(
            request.spec, request.packs, request.variables.scripts, request.workspace.warning
        ),
        facts_of=script_facts,
    ),
    "skills": DescribedEntry(
        is_wanted=lambda spec: bool(spec.skills),
        make=lambda request: skills_toolset(request.skills),
        facts_of=lambda _, tool: ToolFacts(side_effects=tool not in SKILL_TOOLS),
    ),
    CLIENT_TOOLSET: DescribedEntry(
        is_wanted=lambda spec: bool(spec.client_tools),
        make=lambda request: client_toolset(request.spec.client_tools),
        # The runner only waits; what was asked for is in the log, and is not asked for twice.
        facts_of=lambda _, tool: ToolFacts(side_effects=False, waits=True),
    ),
}
"""By the field of the manifest that describes them."""
