"""The toolset `shell`: runs commands in the session's workspace, to their end.

What a command may do is the workspace's to decide, not its name's. A command that did not succeed is a failed
call: the model reads its output and how it ended, and whoever watches sees that it failed.
"""

import functools
import hashlib
from collections.abc import Mapping
from typing import Final

from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ToolReturn
from pydantic_ai.tools import RunContext, Tool
from pydantic_ai.toolsets import FunctionToolset

from agent_runner.toolsets.command_output import cut_middle, fold_progress, labelled
from agent_runner.toolsets.command_runs import MAX_OUTPUT_CHARACTERS, told_result
from agent_runner.toolsets.files import workspace_of
from agent_runner.toolsets.skills import SKILLS_VARIABLE, SkillFolders
from agent_runner.toolsets.terminal_programs import terminal_program
from agent_runner.workspace import SessionWorkspace, find_shell

COMMAND_TOOL: Final = "run_command"
MAX_COMMAND_BYTES: Final = 128 * 1024 - 1
"""Linux starts no command with a longer argument (MAX_ARG_STRLEN)."""


def shell_toolset(
    timeout_seconds: float,
    warning: str | None,
    variables: Mapping[str, str],
    skills: SkillFolders | None = None,
) -> "ShellToolset":
    """The toolset; shared by all runs that put nothing into the environment of commands."""
    if variables or skills is not None:
        return ShellToolset(
            timeout_seconds=timeout_seconds, warning=warning, variables=variables, skills=skills
        )
    return _shared_toolset(timeout_seconds, warning)


# Making the schema takes a third of a leg's set-up, and the toolset keeps nothing of a run.
@functools.lru_cache(maxsize=64)
def _shared_toolset(timeout_seconds: float, warning: str | None) -> "ShellToolset":
    return ShellToolset(timeout_seconds=timeout_seconds, warning=warning, variables=None)


class ShellToolset(FunctionToolset[None]):
    """One tool, `run_command`, held to the agent's time-out."""

    def __init__(
        self,
        *,
        timeout_seconds: float,
        warning: str | None,
        variables: Mapping[str, str] | None,
        skills: SkillFolders | None = None,
    ) -> None:
        """`timeout_seconds` is default and maximum; a model may ask for less, not for more.

        `variables` are for commands alone, and may hold secrets. `warning` is noted beside each result where
        nothing held the command in; the model does not see it.
        """
        super().__init__(id="shell")
        self._timeout_seconds = timeout_seconds
        self._warning = warning
        self._variables = dict(variables or {})
        self._skills = skills
        shell = find_shell().rpartition("/")[2]
        self.add_tool(
            Tool(
                self.run_command,
                name=COMMAND_TOOL,
                description=(
                    f"Execute a command with {shell} and return its output. It starts in the working "
                    "directory and has no terminal and no input. When it returns, everything it started has "
                    "ended: `cd`, `export` and background jobs do not last."
                ),
                docstring_format="google",
            )
        )
        schema = self.tools[COMMAND_TOOL].function_schema.json_schema
        schema["properties"]["timeout_seconds"]["description"] = (
            f"Maximum seconds to wait (default and maximum: {timeout_seconds:g})."
        )

    async def run_command(
        self, ctx: RunContext[None], command: str, *, timeout_seconds: float | None = None
    ) -> ToolReturn[str] | str:
        """Execute a shell command and return its output.

        Args:
            ctx: The current agent run context.
            command: The shell command to run.
            timeout_seconds: Maximum seconds to wait.
        """
        timeout = self._timeout_of(timeout_seconds)
        _check(command)
        workspace = workspace_of(ctx)
        folder = None if self._skills is None else await self._skills.folder()
        variables = self._variables if folder is None else {**self._variables, SKILLS_VARIABLE: str(folder)}
        return await told_result(
            workspace.run(
                [find_shell(), "-c", command],
                env=variables or None,
                timeout=timeout,
                readable=[] if folder is None else [folder],
            ),
            functools.partial(_shown, ctx, workspace),
            timed_out=f"Command timed out after {timeout:g}s",
            too_long="the command and the environment are too long together; write the command to a file, "
            "and run that",
            warning=self._warning,
        )

    def _timeout_of(self, asked: float | None) -> float:
        if asked is None:
            return self._timeout_seconds
        if not asked > 0:
            raise ToolFailed("timeout_seconds must be greater than 0")
        return min(asked, self._timeout_seconds)


def _check(command: str) -> None:
    if "\0" in command:
        raise ToolFailed("the command holds a null byte, which no process can be given")
    try:
        size_bytes = len(command.encode())
    except UnicodeEncodeError as error:
        raise ToolFailed("the command is not valid text: it holds half of a surrogate pair") from error
    if size_bytes > MAX_COMMAND_BYTES:
        raise ToolFailed("the command is too long to start; write it to a file in parts, and run that")
    program = terminal_program(command)
    if program is not None:
        raise ToolFailed(
            f"{program} needs a terminal, and commands have none here. Edit with the file tools or sed, look "
            "with cat or `top -b -n1`"
        )


async def _shown(
    ctx: RunContext[None], workspace: SessionWorkspace, stdout: str, stderr: str, ending: str | None
) -> str:
    """The output with how it ended as its last line; where it is too long, all of it is kept in a file."""
    whole = labelled(fold_progress(stdout), fold_progress(stderr)) or ("" if ending else "(no output)")
    room = MAX_OUTPUT_CHARACTERS - (len(ending) + 1 if ending else 0)
    if len(whole) > room:
        place = await workspace.keep_output(_output_name(ctx), labelled(stdout, stderr))
        notice = "the disk has no room for all of it" if place is None else f"the whole output is in {place}"
        whole = cut_middle(whole, room, notice)
    return "\n".join(part for part in (whole, ending) if part)


def _output_name(ctx: RunContext[None]) -> str:
    """By turn, so that the oldest go first, and by call, so that one run again replaces its own."""
    call = hashlib.sha256(f"{ctx.tool_call_id}".encode()).hexdigest()[:8]
    return f"{ctx.run_step:05d}-{call}.txt"
