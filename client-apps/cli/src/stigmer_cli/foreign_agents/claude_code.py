"""Claude Code's agents (`.claude/agents/*.md`) and permissions, as manifests name the same things."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from stigmer_cli.foreign_agents.foreign_documents import Fields, ForeignDocument, read_foreign_yaml
from stigmer_cli.foreign_agents.mcp_clients import server_name
from stigmer_cli.foreign_agents.written_agents import READING_ONLY, ImportedAgent, agent_name, tidy
from stigmer_contract.skill_documents import split_front_matter
from stigmer_contract.yaml_document import decode_text
from stigmer_contract.yaml_problems import FieldPath, YamlProblem

_READS: Final = frozenset({"Read", "Glob", "Grep", "LS", "NotebookRead"})
_WRITES: Final = frozenset({"Write", "Edit", "MultiEdit", "NotebookEdit"})
_SHELL: Final = frozenset({"Bash", "BashOutput", "KillShell", "KillBash"})
_PASSED_OVER: Final = frozenset({"Skill", "ToolSearch", "ExitPlanMode"})
"""What an agent of ours does without a tool that is named."""
_TOOL: Final = re.compile(r"(?P<name>[A-Za-z_][\w.*-]*)(?:\((?P<of>[^)]*)\))?")
_MCP: Final = re.compile(r"mcp__(?P<server>.+?)(?:__(?P<tool>.+))?")
_KEY: Final = re.compile(r"(?P<key>[A-Za-z][\w-]*):(?: +(?P<value>.*)|\s*)")
_REASONS: Final = {
    "color": "was passed over",
    "hooks": "was not carried over: nothing is run around tool calls; `spec.approval` says what may run",
    "memory": "was not carried over: what an agent is to remember, it writes into its workspace",
    "background": "was not carried over: `stigmer run --detach` starts an execution in the background",
    "effort": "was not carried over: see `spec.modelSettings.thinking`",
    "isolation": "was passed over: each session has a workspace of its own",
    "mcpServers": "was not carried over: name the servers in `spec.mcpServers`",
    "initialPrompt": "was not carried over: give it to `stigmer run`",
}


@dataclass
class ClaudeAgents:
    """What agents of one folder share."""

    servers: Sequence[dict[str, JsonValue]] = ()
    skills: dict[str, Path] = field(default_factory=dict[str, Path])
    """Folders of skills, by name."""


def read_claude_agent(
    content: bytes, source: str, shared: ClaudeAgents
) -> tuple[ImportedAgent | None, ForeignDocument]:
    """The agent of a Markdown file; None where there is none, which is remarked.

    Raises:
        ValueError: the file cannot be read; says where and why.
    """
    try:
        front, body = split_front_matter(decode_text(content))
    except YamlProblem as problem:
        raise ValueError(f"{source}:{problem.position.line}: {problem.message}") from problem
    document = _front_matter(front, source)
    fields = document.fields()
    name = None if fields is None else fields.text("name")
    if fields is None or name is None:
        document.remark((), "is no agent: its front matter has no `name`")
        return None, document
    agent = ImportedAgent(agent_name(name), source)
    if agent.name != name:
        fields.remark("name", f"is named {agent.name!r} now")
    if not body.strip():
        document.remark((), "is no agent: it has no instructions below the front matter")
        return None, document
    agent.spec["instructions"] = tidy(body)
    description = fields.text("description")
    if description:
        agent.spec["description"] = " ".join(description.replace("\\n", " ").split())
    _take_model(fields, agent)
    _take_tools(fields, agent, shared)
    _take_skills(fields, agent, shared)
    turns = fields.number("maxTurns")
    if isinstance(turns, int) and turns > 0:
        agent.spec["limits"] = {"turns": turns}
    fields.tell_rest(_REASONS)
    return agent, document


def read_claude_settings(document: ForeignDocument) -> list[JsonValue]:
    """The permissions of `.claude/settings.json` as approval rules."""
    whole = document.fields()
    permissions = None if whole is None else whole.inner("permissions")
    rules = list[JsonValue]()
    if permissions is not None:
        for policy in ("deny", "ask", "allow"):
            for text in permissions.texts(policy) or []:
                rule = _rule(text, policy)
                if rule is None:
                    permissions.remark(
                        policy, f"{text!r} was not carried over: write a rule in `spec.approval`"
                    )
                else:
                    rules.append(rule)
        permissions.tell_rest({})
    if whole is not None:
        whole.tell_rest({"hooks": _REASONS["hooks"]})
    return rules


def _front_matter(front: str, source: str) -> ForeignDocument:
    """As YAML; where it is none, as Claude Code takes it: a key and its text in each line."""
    try:
        document = read_foreign_yaml(front.encode(), source)
    except ValueError as error:
        value, lines = dict[str, JsonValue](), dict[FieldPath, int]({(): 1})
        key = None
        for number, line in enumerate(front.splitlines(), start=1):
            begun = _KEY.fullmatch(line)
            if begun is not None:
                key = begun["key"]
                text, lines[(key,)] = (begun["value"] or "").strip().strip("\"'"), number
                value[key] = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else text
            elif key is not None and line.strip():
                value[key] = f"{value[key]} {line.strip()}"
        document = ForeignDocument(source, value, lines)
        document.remark((), f"the front matter is no YAML, and was read line by line ({error})")
    return document


def _take_model(fields: Fields, agent: ImportedAgent) -> None:
    model = fields.text("model")
    if model is None or model == "inherit":
        return
    if re.fullmatch(r"claude-[A-Za-z0-9.-]+", model):
        agent.spec["model"] = f"anthropic:{model}"
    else:
        fields.remark(
            "model", f"{model!r} was not carried over: name a model as `anthropic:…` in `spec.model`"
        )


def _names(fields: Fields, key: str) -> list[str] | None:
    """A list, or a text with commas, of which those in brackets separate nothing."""
    value = fields.take(key)
    if value is None:
        return None
    if isinstance(value, str):
        pieces = re.findall(r"[^,(]+(?:\([^)]*\))?", value)
        return [piece.strip() for piece in pieces if piece.strip()]
    return fields.texts(key)


def _take_tools(fields: Fields, agent: ImportedAgent, shared: ClaudeAgents) -> None:
    allowed, refused = _names(fields, "tools"), _names(fields, "disallowedTools") or []
    if allowed == ["*"]:
        allowed = None
    rules = list[JsonValue]()
    for text in refused:
        rule = _rule(text, "deny")
        if rule is None:
            fields.remark(
                "disallowedTools", f"{text!r} was not carried over: write a rule in `spec.approval`"
            )
        else:
            rules.append(rule)
    mode = fields.text("permissionMode")
    if mode == "plan":
        rules += READING_ONLY
    elif mode is not None:
        fields.remark(
            "permissionMode", f"{mode!r} was not carried over: write `spec.approval`; a call runs else"
        )
    if allowed is None:
        agent.spec["tools"] = ["shell", "files"]
        servers = [dict(server) for server in shared.servers]
    else:
        servers = _take_allowed(fields, agent, allowed, rules, shared)
    if servers:
        agent.spec["mcpServers"] = [*servers]
    if rules:
        agent.spec["approval"] = rules


def _take_allowed(
    fields: Fields, agent: ImportedAgent, allowed: list[str], rules: list[JsonValue], shared: ClaudeAgents
) -> list[dict[str, JsonValue]]:
    """The toolsets that hold the tools, and rules for what they have besides; gives the MCP servers."""
    names, of_servers = set[str](), dict[str, set[str]]()
    commands = list[str]()
    for text in allowed:
        found = _TOOL.fullmatch(text)
        server = _MCP.fullmatch(text)
        if server is not None:
            of_servers.setdefault(server_name(server["server"]), set()).add(server["tool"] or "*")
        elif found is None:
            fields.remark("tools", f"{text!r} was not carried over: it is no tool")
        elif found["name"] in _SHELL and found["of"] is not None:
            commands.append(_command_pattern(found["of"]))
        elif found["name"] in _READS | _WRITES | _SHELL:
            names.add(found["name"])
        elif found["name"] == "AskUserQuestion":
            agent.spec["askUser"] = True
        elif found["name"] not in _PASSED_OVER:
            fields.remark("tools", f"{text!r} was not carried over: it has no counterpart")
    toolsets = list[JsonValue]()
    if names & _SHELL or commands:
        toolsets.append("shell")
    if names & (_READS | _WRITES):
        toolsets.append("files")
    agent.spec["tools"] = toolsets
    if names & _READS and not names & _WRITES:
        rules += READING_ONLY
    if commands and not names & _SHELL and "*" not in commands:
        for each in commands:
            rules.append({"tool": "shell", "when": each, "policy": "allow"})
        rules.append({"tool": "shell", "policy": "ask"})
    known = {f"{server['name']}": server for server in shared.servers}
    for name in sorted(of_servers.keys() - known.keys()):
        fields.remark(
            "tools", f"tools of the MCP server {name!r} were not carried over: nothing describes it"
        )
    chosen = list[dict[str, JsonValue]]()
    for name in sorted(of_servers.keys() & known.keys()):
        tools = of_servers[name]
        server = {key: value for key, value in known[name].items() if key not in ("tools", "exclude")}
        chosen.append(server if "*" in tools else {**server, "tools": [*sorted(tools)]})
    return chosen


def _take_skills(fields: Fields, agent: ImportedAgent, shared: ClaudeAgents) -> None:
    for name in _names(fields, "skills") or []:
        folder = shared.skills.get(name)
        if folder is None:
            fields.remark(
                "skills", f"{name!r} was not carried over: there is no such skill beside the agents"
            )
        else:
            agent.skills.append(folder)


def _command_pattern(of: str) -> str:
    """`git diff:*` as a rule writes it."""
    return re.sub(r":\*$", "*", of.strip()) or "*"


def _rule(text: str, policy: str) -> JsonValue:
    """A rule for a tool as Claude Code names it; None: there is none."""
    found = _TOOL.fullmatch(text)
    if found is None:
        return None
    of = (found["of"] or "").strip()
    server = _MCP.fullmatch(found["name"])
    rule: dict[str, JsonValue]
    if server is not None:
        rule = {"tool": f"{server_name(server['server'])}/{server['tool'] or '*'}"}
    elif found["name"] in _SHELL:
        rule = {"tool": "shell", **({"when": _command_pattern(of)} if of and of != "*" else {})}
    elif found["name"] in _READS and of:
        rule = {"tool": "files", "when": _path_pattern(of)}
    elif found["name"] in _WRITES and policy != "allow":
        rule = {"tool": "write_file" if found["name"] == "Write" else "edit_file"}
        if of:
            rule["when"] = _path_pattern(of)
    else:
        return None
    return {**rule, "policy": policy}


def _path_pattern(of: str) -> str:
    return of.removeprefix("./").removeprefix("//")
