"""The rule that "approve calls of this kind" means: never wider than a program and its subcommand. Pure."""

import re
from typing import Final

from agent_runner.approval.calls import ApprovalCall
from agent_runner.approval.programs import EVALUATORS, INTERPRETERS, SHELLS, WRAPPERS, without_version
from agent_runner.approval.shell_rules import is_all, read_line
from agent_runner.toolsets import COMMAND_TOOL
from stigmer_contract.manifest_approval import MAX_RULE_CHARACTERS, ApprovalRule

# Bounded, so that a rule can hold both.
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.+-]{0,99}")
_SUBCOMMAND: Final = re.compile(r"[a-z][a-z0-9:_-]{0,99}")
_TOOL: Final = re.compile(r"[^*?\0\r\n]+")
_RUN_WHAT_THEY_ARE_GIVEN: Final = frozenset(
    {"run", "exec", "x", "dlx", "shell", "foreach", "eval", "repl", "bisect", "rebase"}
)
"""Subcommands (`docker run`, `npm exec`, `git bisect`) that run whatever follows."""


def rule_for_kind(call: ApprovalCall) -> ApprovalRule | None:
    """The rule by which calls like this one would be allowed; None where none would be narrow enough."""
    if not call.built_in:
        return _tool_rule(call)
    if call.tool != COMMAND_TOOL:
        return _file_rule(call)
    command = call.arguments.get("command")
    if not isinstance(command, str):
        return None
    line, seen = read_line(command)
    if not line.is_simple or seen.unseen is not None or len(line.commands) != 1:
        return None
    [found] = line.commands
    name = found.name.text
    plain = without_version(name)
    is_runner = any(
        each in runs for each in (name, plain) for runs in (SHELLS, WRAPPERS, EVALUATORS, INTERPRETERS)
    )
    if not _NAME.fullmatch(name) or is_runner:
        return None
    first = found.arguments[0].text if found.arguments else ""
    if first in _RUN_WHAT_THEY_ARE_GIVEN:
        return None
    if first.startswith("-") and any(word.text in _RUN_WHAT_THEY_ARE_GIVEN for word in found.arguments):
        return None
    when = f"{name} {first} *" if _SUBCOMMAND.fullmatch(first) else f"{name} *"
    return ApprovalRule(tool=call.toolset, when=when, policy="allow") if is_all(when, command) else None


def _tool_rule(call: ApprovalCall) -> ApprovalRule | None:
    """This tool of this server, which may call it what it likes: `*`, too."""
    name = f"{call.toolset}/{call.tool}"
    if not _TOOL.fullmatch(name) or len(name) > MAX_RULE_CHARACTERS:
        return None
    return ApprovalRule(tool=name, policy="allow")


def _file_rule(call: ApprovalCall) -> ApprovalRule | None:
    """This tool on this very file."""
    places = set(call.paths or ())
    if len(places) != 1:
        return None
    [place] = places
    when = f"/{place}"
    if any(character in "*?[]{}!\\\r\n\0" for character in place) or not place.strip():
        return None
    if len(when) > MAX_RULE_CHARACTERS:
        return None
    return ApprovalRule(tool=call.tool, when=when, policy="allow")
