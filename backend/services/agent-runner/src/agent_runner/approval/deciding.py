"""Decides about the calls of one leg: finds out what they open, and keeps long work off the event loop."""
# ruff: noqa: PTH118 - paths here are text as the workspace has them, not pathlib's

import asyncio
import os
from dataclasses import replace
from typing import Final

from agent_runner.approval.calls import FILES, ApprovalCall, Decision
from agent_runner.approval.rules import ApprovalRules
from agent_runner.toolsets.shown_names import meant_name
from agent_runner.workspace import IsolatedFiles, SessionWorkspace

LONG_COMMAND_CHARACTERS: Final = 500
"""A command up to this is looked at in at most some ten milliseconds; one of 2000 took up to 45 (2026-11)."""


async def decide(rules: ApprovalRules, call: ApprovalCall, workspace: SessionWorkspace) -> Decision:
    """What becomes of a call that is about to be executed in `workspace`.

    Raises:
        WorkspaceUnavailableError: the workspace is gone.
    """
    if rules.decides_all:
        return Decision("allow", None, "the agent has no rules")
    path = call.arguments.get("path", ".")
    opens = call.built_in and call.toolset == FILES and rules.looks_at(call)
    if opens and isinstance(path, str):
        call = replace(call, paths=await workspace.soon(lambda files: find_paths(files, path)))
    command = call.arguments.get("command")
    if isinstance(command, str) and len(command) > LONG_COMMAND_CHARACTERS:
        return await asyncio.to_thread(rules.decide, call)
    return rules.decide(call)


def find_paths(files: IsolatedFiles, path: str) -> tuple[str, ...]:
    """The path that a file tool opens, relative to the workspace: as it is written, and where links lead.

    What leads outside is told as it is written and as an absolute path; the tools refuse it.
    """
    found = list[str]()
    for written in dict.fromkeys((path, meant_name(path) or path)):
        try:
            place = os.path.normpath(os.path.join(files.root, written))
            found += [_beneath(files.root, place), _beneath(files.root, files.realpath(place))]
        except (OSError, ValueError):
            # A loop, a name that is too long: nothing can be opened by it.
            found.append(written)
    return tuple(dict.fromkeys(found))


def _beneath(root: str, place: str) -> str:
    relative = os.path.relpath(place, root)
    return place if relative.startswith("..") else relative
