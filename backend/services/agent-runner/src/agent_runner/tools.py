"""The built-in toolsets `shell` and `files`, bound to a session's workspace. The tools are the harness's."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import ModelRetry
from pydantic_ai.messages import ToolCallPart, ToolReturn, WorkspaceRef
from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import ToolsetTool
from pydantic_ai.workspaces import WorkspaceBackend
from pydantic_ai_harness.filesystem import DEFAULT_TOOL_NAMES, READ_ONLY_TOOL_NAMES, FileSystem
from pydantic_ai_harness.shell import Shell, ShellToolset

from agent_runner.workspace import SessionWorkspace
from stigmer_contract.manifest import AgentSpec

COMMAND_TOOL: Final = "run_command"
MAX_TOOL_OUTPUT_CHARACTERS: Final = 50_000
"""What one call may add to the conversation; the harness keeps the end of longer output."""
MAX_COMMAND_CHARACTERS: Final = 100_000
"""Linux starts no command with an argument of 128 KiB, and the harness takes a minute over a word of
1 MiB while the event loop stands still (measured 2026-11)."""
PROTECTED_PATHS: Final = ("**/.git",)
"""What the file tools may not write: a hook planted there runs when the directory's owner next uses git."""

_TIMEOUT_ARGUMENT = "timeout_seconds"


def tool_capabilities(
    spec: AgentSpec, workspace: SessionWorkspace, command_variables: Mapping[str, str] | None = None
) -> list[AbstractCapability[None]]:
    """What gives an agent the toolsets its spec names, working in `workspace`. Empty where it names none.

    `command_variables` are for the commands of `shell` alone, and may hold secrets.
    """
    timeout_seconds = spec.limits.tool_timeout.total_seconds()
    warning = workspace.warning
    if command_variables:
        shell = _make_shell(timeout_seconds, warning, command_variables)
    else:
        shell = _shell(timeout_seconds, warning)
    toolsets: dict[str, AbstractCapability[None]] = {"shell": shell, "files": _files()}
    chosen = [toolsets[name] for name in spec.tools]
    return [BoundWorkspace(workspace=workspace, timeout_seconds=timeout_seconds), *chosen] if chosen else []


# The harness's toolsets keep nothing of a run, and making their schemas takes a third of a leg's set-up:
# all legs share them.
@functools.lru_cache(maxsize=64)
def _shell(timeout_seconds: float, warning: str | None) -> Shell[None]:
    return _make_shell(timeout_seconds, warning, None)


def _make_shell(
    timeout_seconds: float, warning: str | None, variables: Mapping[str, str] | None
) -> Shell[None]:
    return SessionShell(
        warning=warning,
        id="shell",
        env=variables,
        tools=(COMMAND_TOOL,),
        # Names of programs are no boundary: what a command may do is the workspace's to decide.
        denied_commands=(),
        default_timeout=timeout_seconds,
        max_output_chars=MAX_TOOL_OUTPUT_CHARACTERS,
    )


@functools.cache
def _files() -> FileSystem[None]:
    return FileSystem[None](
        id="files",
        tools=DEFAULT_TOOL_NAMES,
        read_only_patterns=PROTECTED_PATHS,
        max_read_chars=MAX_TOOL_OUTPUT_CHARACTERS,
    )


def has_side_effects(tool_name: str) -> bool:
    """Whether a call may change anything, so that it must not silently run twice. Unknown tools may."""
    return tool_name not in READ_ONLY_TOOL_NAMES


class NotedShellToolset(ShellToolset[None]):
    """Notes beside each command's result that nothing held the command in. The model does not see it."""

    warning: str | None = None

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[None], tool: ToolsetTool[None]
    ) -> Any:
        """The result, with the note in its metadata, and so in the log too."""
        result = await super().call_tool(name, tool_args, ctx, tool)
        if self.warning is None or not isinstance(result, str):
            return result
        return ToolReturn[str](return_value=result, metadata={"isolation": self.warning})


@dataclass(kw_only=True)
class SessionShell(Shell[None]):
    """The harness's shell, whose results carry a warning where there is one."""

    warning: str | None = None
    _noted_toolset: NotedShellToolset | None = field(default=None, init=False, repr=False)

    def get_toolset(self) -> ShellToolset[None]:
        """The toolset, made once."""
        if self._noted_toolset is None:
            self._noted_toolset = NotedShellToolset(
                allowed_commands=self.allowed_commands,
                denied_commands=self.denied_commands,
                denied_operators=self.denied_operators,
                default_timeout=self.default_timeout,
                max_output_chars=self.max_output_chars,
                persist_cwd=self.persist_cwd,
                allow_interactive=self.allow_interactive,
                env=self.env,
                denied_env_patterns=self.denied_env_patterns,
                tools=self.tools,
                id=self.id,
            )
            self._noted_toolset.warning = self.warning
        return self._noted_toolset


@dataclass(kw_only=True)
class BoundWorkspace(AbstractCapability[None]):
    """Gives runs the session's workspace, and holds commands to the agent's time-out."""

    workspace: SessionWorkspace
    timeout_seconds: float
    """Longest run of one command; a model may ask for less, not for more."""
    id: str | None = "workspace"

    def get_workspace(self, ctx: RunContext[None], *, ref: WorkspaceRef | None) -> WorkspaceBackend | None:
        """The session's workspace, which is also where the session's earlier executions worked."""
        return self.workspace if ref is None or ref == self.workspace.ref else None

    async def prepare_tools(
        self, ctx: RunContext[None], tool_defs: list[ToolDefinition]
    ) -> list[ToolDefinition]:
        """Tell the model the time-out that holds here, not the harness's default."""
        return [self._with_timeout(tool) if tool.name == COMMAND_TOOL else tool for tool in tool_defs]

    async def before_tool_execute(
        self, ctx: RunContext[None], *, call: ToolCallPart, tool_def: ToolDefinition, args: dict[str, Any]
    ) -> dict[str, Any]:
        """Cut a time-out that is longer than the agent may use, and refuse what cannot be started."""
        if tool_def.name != COMMAND_TOOL:
            return args
        if len(args["command"]) > MAX_COMMAND_CHARACTERS:
            raise ModelRetry("the command is too long to start; write it to a file in parts, and run that")
        asked = args.get(_TIMEOUT_ARGUMENT)
        if asked is None:
            return args
        if not asked > 0:
            raise ModelRetry(f"{_TIMEOUT_ARGUMENT} must be greater than 0")
        return {**args, _TIMEOUT_ARGUMENT: min(asked, self.timeout_seconds)}

    def _with_timeout(self, tool: ToolDefinition) -> ToolDefinition:
        schema = cast("dict[str, dict[str, dict[str, object]]]", tool.parameters_json_schema)
        argument = {
            **schema["properties"][_TIMEOUT_ARGUMENT],
            "description": f"Maximum seconds to wait (default and maximum: {self.timeout_seconds:g}).",
        }
        properties = {**schema["properties"], _TIMEOUT_ARGUMENT: argument}
        return replace(tool, parameters_json_schema={**schema, "properties": properties})
