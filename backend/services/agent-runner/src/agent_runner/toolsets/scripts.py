"""The toolset `scripts`: the programs that a manifest describes as tools of the agent.

A script is run like a command of `shell`, with three differences that keep its secrets from the agent's own
commands: it has its own variables and network, it starts in an empty directory that is its `HOME`, and its
files are the ones that were packed, which no command can change. The workspace it finds by `$WORKSPACE`.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.messages import ToolReturn
from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import FunctionToolset

from agent_runner.errors import AttemptSuperseded, ServerRefused
from agent_runner.toolsets.command_output import cut_middle, fold_progress, labelled
from agent_runner.toolsets.command_runs import MAX_OUTPUT_CHARACTERS, told_result
from agent_runner.toolsets.declared_tools import check_arguments, declared_tool
from agent_runner.toolsets.facts import ToolFacts
from agent_runner.toolsets.files import workspace_of
from agent_runner.workspace import PackFolders
from stigmer_contract.errors import PackError
from stigmer_contract.manifest import AgentSpec
from stigmer_contract.manifest_scripts import Script

MAX_ARGUMENT_BYTES: Final = 1 << 20
WORKSPACE_VARIABLE: Final = "WORKSPACE"
FILES_VARIABLE: Final = "SCRIPT_FILES"

# HOME is the command's own temporary directory, which only it can write to: what an agent's commands leave in
# theirs (a `.pth` file, say) would else run with the script's secrets. The same holds for where it starts.
_START: Final = 'cd "${TMPDIR:?}" && export HOME="$TMPDIR" && exec "$@"'


def script_facts(spec: AgentSpec, tool: str) -> ToolFacts:
    """What the manifest says of a script."""
    script = next((each for each in spec.scripts if each.name == tool), None)
    return ToolFacts(side_effects=script is None or script.side_effects)


def scripts_toolset(
    spec: AgentSpec, packs: PackFolders, variables: Mapping[str, Mapping[str, str]], warning: str | None
) -> FunctionToolset[None]:
    """A tool for each script. `variables` are those of each, by its name, and may hold secrets."""
    toolset = FunctionToolset[None](id="scripts")
    seconds = spec.limits.tool_timeout.total_seconds()
    for script in spec.scripts:
        running = _RunningScript(script, packs, variables.get(script.name, {}), seconds, warning)
        toolset.add_tool(declared_tool(script, running.run, running.check))
    return toolset


class _RunningScript:
    """One script of an agent."""

    def __init__(
        self,
        script: Script,
        packs: PackFolders,
        variables: Mapping[str, str],
        timeout_seconds: float,
        warning: str | None,
    ) -> None:
        self._script = script
        self._packs = packs
        self._variables = variables
        self._timeout_seconds = timeout_seconds
        self._warning = warning

    def check(self, ctx: RunContext[None], /, **arguments: Any) -> None:
        """Refuse arguments that the script's schema does not allow, before anything is written or started."""
        check_arguments(self._script, arguments)
        if len(_to_json(arguments).encode("utf-8", "surrogatepass")) > MAX_ARGUMENT_BYTES:
            raise ModelRetry(f"The arguments are longer than {MAX_ARGUMENT_BYTES >> 20} MiB together")

    async def run(self, ctx: RunContext[None], /, **arguments: Any) -> ToolReturn[str] | str:
        """Run the script to its end; its standard output is the result."""
        workspace = workspace_of(ctx)
        folder = await self._folder()
        variables = {
            **self._variables,
            WORKSPACE_VARIABLE: await workspace.working_dir(),
            **({} if folder is None else {FILES_VARIABLE: str(folder)}),
        }
        argv = [_meaning(argument, folder) for argument in self._script.command]
        return await told_result(
            workspace.run(
                ["/bin/sh", "-c", _START, argv[0], *argv],
                env=variables,
                timeout=self._timeout_seconds,
                input_text=_to_json(arguments),
                network=self._script.network,
                readable=[] if folder is None else [folder],
            ),
            _shown,
            timed_out=f"The script timed out after {self._timeout_seconds:g}s",
            too_long="the script's command and variables are too long together",
            warning=self._warning,
        )

    async def _folder(self) -> Path | None:
        pack = self._script.pack
        if pack is None:
            return None
        try:
            return await self._packs.folder({"": pack.removeprefix("sha256:")})
        except AttemptSuperseded:
            raise
        except (PackError, ServerRefused, OSError) as error:
            raise ToolFailed(
                f"the files of the tool {self._script.name!r} cannot be had: {error}. Somebody has to "
                "apply the agent again"
            ) from error


def _meaning(argument: str, folder: Path | None) -> str:
    """What an argument means: a packed file of that name, or itself."""
    if folder is None or not argument or argument.startswith("/") or ".." in argument.split("/"):
        return argument
    path = os.path.normpath(folder / argument)
    return path if path != str(folder) and os.path.lexists(path) else argument


def _to_json(arguments: Mapping[str, JsonValue]) -> str:
    return json.dumps(dict(arguments), ensure_ascii=False)


async def _shown(stdout: str, stderr: str, ending: str | None) -> str:
    if ending is None:
        return _cut(stdout) or "(no output)"
    whole = labelled(fold_progress(stdout), fold_progress(stderr))
    return "\n".join(part for part in (_cut(whole, len(ending) + 1), ending) if part)


def _cut(text: str, reserved: int = 0) -> str:
    return cut_middle(text, MAX_OUTPUT_CHARACTERS - reserved, "write long results to a file of the workspace")
