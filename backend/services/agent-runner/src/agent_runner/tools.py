"""The built-in toolsets `shell` and `files`, bound to a session's workspace. The tools are the harness's."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from pydantic_ai.capabilities import ToolSearch
from pydantic_ai.exceptions import ModelRetry
from pydantic_ai.messages import ToolReturn, WorkspaceRef
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.tools import AgentNativeTool, RunContext, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, CombinedToolset, ToolsetTool, WrapperToolset
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


def session_tools(
    spec: AgentSpec, workspace: SessionWorkspace, command_variables: Mapping[str, str] | None = None
) -> "SessionTools":
    """What gives an agent's runs the session's workspace, and the toolsets that its spec names.

    `command_variables` are for the commands of `shell` alone, and may hold secrets.
    """
    timeout_seconds = spec.limits.tool_timeout.total_seconds()
    if command_variables:
        shell = _make_shell(timeout_seconds, workspace.warning, command_variables)
    else:
        shell = _shell(timeout_seconds, workspace.warning)
    toolsets: dict[str, AbstractToolset[None]] = {"shell": shell, "files": _files()}
    return SessionTools(workspace=workspace, toolsets=[toolsets[name] for name in spec.tools])


# The harness's toolsets keep nothing of a run, and making their schemas takes a third of a leg's set-up:
# all legs share them.
@functools.lru_cache(maxsize=64)
def _shell(timeout_seconds: float, warning: str | None) -> "SessionShell":
    return _make_shell(timeout_seconds, warning, None)


def _make_shell(
    timeout_seconds: float, warning: str | None, variables: Mapping[str, str] | None
) -> "SessionShell":
    defaults = Shell[None]()
    return SessionShell(
        id="shell",
        tools=(COMMAND_TOOL,),
        env=variables,
        # Names of programs are no boundary: what a command may do is the workspace's to decide.
        allowed_commands=(),
        denied_commands=(),
        denied_operators=defaults.denied_operators,
        denied_env_patterns=defaults.denied_env_patterns,
        default_timeout=timeout_seconds,
        max_output_chars=MAX_TOOL_OUTPUT_CHARACTERS,
        persist_cwd=defaults.persist_cwd,
        allow_interactive=defaults.allow_interactive,
        warning=warning,
    )


@functools.cache
def _files() -> AbstractToolset[None]:
    return FileSystem[None](
        id="files",
        tools=DEFAULT_TOOL_NAMES,
        read_only_patterns=PROTECTED_PATHS,
        max_read_chars=MAX_TOOL_OUTPUT_CHARACTERS,
    ).get_toolset()


def has_side_effects(tool_name: str) -> bool:
    """Whether a call may change anything, so that it must not silently run twice. Unknown tools may."""
    return tool_name not in READ_ONLY_TOOL_NAMES


@dataclass(kw_only=True)
class SessionTools(ToolSearch[None]):
    """The workspace of a run and the tools that work in it.

    One capability for all of that, and in the place of the search for deferred tools, which pydantic-ai
    (2.62) gives to every agent that has none and which finds nothing here: every hook of every capability is
    called, so that each costs some 4 ms of processor time in an execution of ten tool calls (2026-11).
    """

    workspace: SessionWorkspace
    toolsets: Sequence[AbstractToolset[None]]
    id: str | None = "session"

    def get_workspace(self, ctx: RunContext[None], *, ref: WorkspaceRef | None) -> WorkspaceBackend | None:
        """The session's workspace, which is also where the session's earlier executions worked."""
        return self.workspace if ref is None or ref == self.workspace.ref else None

    def get_toolset(self) -> AbstractToolset[None] | None:
        """All toolsets as one."""
        return SettledToolset(CombinedToolset(self.toolsets)) if self.toolsets else None

    def get_native_tools(self) -> Sequence[AgentNativeTool[None]]:
        """None: nothing is to be searched for."""
        return ()

    def get_wrapper_toolset(self, toolset: AbstractToolset[None]) -> AbstractToolset[None]:
        """The agent's tools as they are: nothing is to be searched for."""
        return toolset

    async def before_model_request(
        self, ctx: RunContext[None], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """The request as it is: nothing was searched for."""
        return request_context


@dataclass
class SettledToolset(WrapperToolset[None]):
    """Lists its tools once for a run: they do not change, and listing them takes 0.5 ms a turn (2026-11)."""

    _listed: dict[str, ToolsetTool[None]] | None = field(default=None, init=False, repr=False)

    async def get_tools(self, ctx: RunContext[None]) -> dict[str, ToolsetTool[None]]:
        """The tools by name, as they were at the run's first turn."""
        if self._listed is None:
            self._listed = await super().get_tools(ctx)
        return dict(self._listed)


class SessionShell(ShellToolset[None]):
    """The harness's shell, held to the agent's time-out.

    Notes beside each command's result where nothing held the command in. The model does not see that.
    """

    def __init__(self, *, default_timeout: float, warning: str | None, **options: Any) -> None:
        """`default_timeout` in seconds is also the longest; a model may ask for less, not for more."""
        super().__init__(default_timeout=default_timeout, **options)
        self._timeout_seconds = default_timeout
        self._warning = warning

    async def get_tools(self, ctx: RunContext[None]) -> dict[str, ToolsetTool[None]]:
        """The tools, whose schema tells the model the time-out that holds here, not the harness's default."""
        return {
            name: replace(tool, tool_def=self._with_timeout(tool.tool_def))
            for name, tool in (await super().get_tools(ctx)).items()
        }

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[None], tool: ToolsetTool[None]
    ) -> Any:
        """Run the command within the time-out; the note is in the result's metadata, and so in the log too.

        Raises:
            ModelRetry: it cannot be started.
        """
        if len(tool_args["command"]) > MAX_COMMAND_CHARACTERS:
            raise ModelRetry("the command is too long to start; write it to a file in parts, and run that")
        asked = tool_args.get(_TIMEOUT_ARGUMENT)
        if asked is not None:
            if not asked > 0:
                raise ModelRetry(f"{_TIMEOUT_ARGUMENT} must be greater than 0")
            tool_args = {**tool_args, _TIMEOUT_ARGUMENT: min(asked, self._timeout_seconds)}
        result = await super().call_tool(name, tool_args, ctx, tool)
        if self._warning is None or not isinstance(result, str):
            return result
        return ToolReturn[str](return_value=result, metadata={"isolation": self._warning})

    def _with_timeout(self, tool: ToolDefinition) -> ToolDefinition:
        schema = cast("dict[str, dict[str, dict[str, object]]]", tool.parameters_json_schema)
        argument = {
            **schema["properties"][_TIMEOUT_ARGUMENT],
            "description": f"Maximum seconds to wait (default and maximum: {self._timeout_seconds:g}).",
        }
        properties = {**schema["properties"], _TIMEOUT_ARGUMENT: argument}
        return replace(tool, parameters_json_schema={**schema, "properties": properties})
