"""Says where an agent works, in words for a model: only what stays as it is for a whole session."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from agent_runner.workspace.programs import find_shell
from agent_runner.workspace.session_workspace import SessionWorkspace

UTC_NAME: Final = "UTC"
_LOCAL_TIME: Final = Path("/etc/localtime")
_ZONES: Final = "/zoneinfo/"

_EXPECTED: Final = "git rg python3 pip node npm gcc make curl wget jq unzip"
"""What models take for granted; said where it is missing."""
_FURTHER: Final = (
    "uv pnpm yarn bun deno go cargo java mvn gradle dotnet clang cmake ruby perl php sqlite3 psql gh docker "
    "ffmpeg pandoc tar zip ssh"
)
_NETWORKS: Final = {
    "none": "none; commands reach no other machine and no port of this one",
    "web": "HTTPS only (TCP port 443, and resolution of names over TCP)",
    "all": "everything that this machine reaches",
}


def describe_surroundings(
    workspace: SessionWorkspace, directory: str, *, tools: frozenset[str], network: str, time_zone: str
) -> str:
    """The text, a few lines; blocks for some stats.

    Args:
        workspace: where the agent works.
        directory: its path.
        tools: the agent's toolsets.
        network: what its commands may reach.
        time_zone: of the dates that the agent is told.
    """
    lines = ["Where you work. This holds for the whole session."]
    if tools & {"shell", "files"}:
        lines.append(f"- Working directory: {directory}")
    if "files" in tools:
        lines.append("- The file tools reach nothing outside of it; paths are relative to it.")
    if "shell" in tools:
        lines += _commands(workspace, network)
    lines.append(f"- Time zone: {time_zone}")
    return "\n".join(lines)


def local_time_zone(environment: Mapping[str, str]) -> str:
    """Name of the time zone that commands have, which get `environment`; UTC where it has none."""
    name = environment.get("TZ", "").removeprefix(":")
    if not name:
        _, _, name = os.path.realpath(_LOCAL_TIME).partition(_ZONES)
    return name if is_time_zone(name) else UTC_NAME


def is_time_zone(name: str) -> bool:
    """Whether this machine knows a time zone of that name."""
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return False
    return True


def _commands(workspace: SessionWorkspace, network: str) -> list[str]:
    if workspace.refusal is not None:
        return ["- Commands cannot be run here."]
    shell = find_shell().rpartition("/")[2]
    scratch = "files in $TMPDIR, which is removed with the command" + (
        "; /tmp itself is closed" if workspace.holds_files_in else ""
    )
    own_home = workspace.has_own_home
    home = (
        "what is to outlast it but is no part of the work goes to $HOME"
        if own_home
        else "$HOME is the working directory"
    )
    here, missing = _programs(workspace.command_environment.get("PATH", ""))
    return [
        f"- Commands run with {shell}, each anew in the working directory, without terminal and input: "
        "`cd`, `export` and background jobs end with the command.",
        f"- Scratch of one command: {scratch}; {home}.",
        f"- Network of commands: {_NETWORKS.get(network, network)}.",
        f"- Programs: {', '.join(here) or 'none of the usual'}"
        + (f"; not here: {', '.join(missing)}" if missing else ""),
    ]


def _programs(path: str) -> tuple[list[str], list[str]]:
    """What is there, and what is missing of what is expected."""
    folders = [folder for folder in path.split(os.pathsep) if folder.startswith("/")]

    def is_here(name: str) -> bool:
        return any(os.access(f"{folder}/{name}", os.X_OK) for folder in folders)

    here = [name for name in f"{_EXPECTED} {_FURTHER}".split() if is_here(name)]
    return here, [name for name in _EXPECTED.split() if name not in here]
