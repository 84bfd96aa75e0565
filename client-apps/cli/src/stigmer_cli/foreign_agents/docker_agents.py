"""Agents of docker-agent (once cagent), YAML with `agents` and `models`, as manifests name these things."""

import re
from typing import Final

from pydantic import JsonValue, ValidationError

from stigmer_cli.foreign_agents.foreign_documents import Fields, ForeignDocument
from stigmer_cli.foreign_agents.mcp_clients import read_server
from stigmer_cli.foreign_agents.secret_values import environment_of
from stigmer_cli.foreign_agents.written_agents import READING_ONLY, ImportedAgent, agent_name, tidy
from stigmer_contract.manifest_scripts import Script

_PROVIDERS: Final = frozenset({"openai", "anthropic", "ollama"})
_WRITING_TOOLS: Final = frozenset({"write_file", "edit_file", "create_directory"})
_NO_SUB_AGENTS: Final = "was not carried over: an agent cannot hand work to others yet"
_AGENT_REASONS: Final = {
    "sub_agents": _NO_SUB_AGENTS,
    "handoffs": _NO_SUB_AGENTS,
    "commands": "was not carried over: give the text to `stigmer run`",
    "fallback": "was not carried over: a model that is away is waited for (`spec.limits.modelUnavailable`)",
    "hooks": "was not carried over: nothing is run around tool calls; `spec.approval` says what may run",
    "num_history_items": "was not carried over: a long conversation is compacted, see `spec.context`",
    "skills": "was not carried over: name folders of skills in `spec.skills`",
    "welcome_message": "was passed over",
}
_TOOLSET_REASONS: Final = {
    "think": "was passed over: see `spec.modelSettings.thinking`",
    "todo": "was passed over",
    "tasks": "was passed over",
    "memory": "was not carried over: what an agent is to remember, it writes into its workspace",
    "openapi": "was not carried over: save the document beside the manifest, and name it in `spec.openapi`",
    "api": "was not carried over: write an OpenAPI document, and name it in `spec.openapi`",
}
# docker-agent hands arguments over as variables; a script of ours reads them from its standard input.
_BY_VARIABLES: Final = (
    "import json,os,sys;"
    "given = json.load(sys.stdin);"
    "os.environ.update({k: v if isinstance(v, str) else json.dumps(v) for k, v in given.items()});"
    "os.chdir(os.environ['WORKSPACE']);"
    "os.execvp('/bin/sh', ['/bin/sh', '-c', sys.argv[1]])"
)


def is_docker_agents(document: ForeignDocument) -> bool:
    """Whether a YAML file is one of docker-agent's."""
    value = document.value
    return isinstance(value, dict) and isinstance(value.get("agents"), dict) and "apiVersion" not in value


def read_docker_agents(document: ForeignDocument, file_name: str) -> list[ImportedAgent]:
    """The agents of a file; what could not be carried over is remarked."""
    whole = document.fields()
    agents = None if whole is None else whole.inner("agents")
    if whole is None or agents is None:
        return []
    reading = _Reading(whole)
    stem = agent_name(file_name)
    found = list[ImportedAgent]()
    for key in agents.value:
        fields = agents.inner(key)
        agent = None if fields is None else reading.agent(fields, key, stem)
        if agent is not None:
            found.append(agent)
    for key in ("models", "mcps", "providers", "version", "permissions"):
        whole.take(key)
    whole.tell_rest({"metadata": "was passed over", "rag": "was not carried over: it has no counterpart"})
    return found


class _Reading:
    """One file."""

    def __init__(self, whole: Fields) -> None:
        self._models = whole.inner("models")
        self._servers = whole.inner("mcps")
        self._rules = _rules(whole.inner("permissions"))

    def agent(self, fields: Fields, key: str, stem: str) -> ImportedAgent | None:
        """One agent; None: it was not carried over, which is remarked."""
        name = stem if key == "root" else agent_name(f"{stem}-{key}")
        agent = ImportedAgent(name, fields.document.source)
        if name != key:
            fields.remark("", f"is named {name!r} now")
        instructions = fields.text("instruction")
        if not instructions or not instructions.strip():
            fields.remark("", "was not carried over: it has no `instruction`")
            return None
        agent.spec["instructions"] = tidy(instructions)
        description = fields.text("description")
        if description:
            agent.spec["description"] = " ".join(description.split())
        self._take_model(fields, agent)
        turns = fields.number("max_iterations")
        if isinstance(turns, int) and turns > 0:
            agent.spec["limits"] = {"turns": turns}
        output = fields.inner("structured_output")
        if output is not None and output.has("schema"):
            agent.spec["output"] = {"schema": output.take("schema")}
        agent.spec["tools"] = []
        agent.spec["approval"] = []
        for toolset in fields.items("toolsets"):
            self._take_toolset(toolset, agent)
        agent.spec["approval"] = [*_listed(agent, "approval"), *self._rules]
        for empty in ("tools", "approval"):
            if not agent.spec[empty]:
                del agent.spec[empty]
        for told in ("add_date", "add_environment_info"):
            fields.take(told)  # an agent of ours is told both
        fields.tell_rest(_AGENT_REASONS)
        return agent

    def _take_model(self, fields: Fields, agent: ImportedAgent) -> None:
        written = fields.text("model")
        if written is None:
            return
        model = None if self._models is None else self._models.inner(written)
        if model is None:
            provider, _, name = written.partition("/")
        else:
            provider, name = model.text("provider") or "", model.text("model") or ""
        if provider not in _PROVIDERS or not name:
            fields.remark(
                "model",
                f"{written!r} was not carried over: name one in `spec.model`; other providers than "
                f"{', '.join(sorted(_PROVIDERS))} are endpoints of `llm.endpoints`",
            )
        else:
            agent.spec["model"] = f"{provider}:{name}"
        if model is None:
            return
        settings = dict[str, JsonValue]()
        for key, ours in (("temperature", "temperature"), ("top_p", "topP"), ("max_tokens", "maxTokens")):
            number = model.number(key)
            if number is not None:
                settings[ours] = number
        thinking = model.take("thinking_budget")
        if thinking in ("minimal", "low", "medium", "high"):
            settings["thinking"] = thinking
        elif thinking is not None:
            model.remark("thinking_budget", "was not carried over: see `spec.modelSettings.thinking`")
        if settings:
            agent.spec["modelSettings"] = settings
        model.tell_rest({"token_key": "was passed over: keys of models are the runner's"})

    def _take_toolset(self, toolset: Fields, agent: ImportedAgent) -> None:
        kind = toolset.text("type")
        tools = _listed(agent, "tools")
        match kind:
            case "shell":
                tools.append("shell")
            case "filesystem":
                tools.append("files")
                some = toolset.texts("tools")
                if some and not _WRITING_TOOLS & set(some):
                    _listed(agent, "approval").extend(READING_ONLY)
            case "user_prompt":
                agent.spec["askUser"] = True
            case "mcp":
                self._take_server(toolset, agent)
                return
            case "script":
                _take_scripts(toolset, agent)
                return
            case _:
                reason = _TOOLSET_REASONS.get(kind or "", "was not carried over: it has no counterpart")
                toolset.remark("", f"the toolset {kind!r} {reason}")
                return
        agent.spec["tools"] = list(dict.fromkeys(f"{each}" for each in tools))
        toolset.tell_rest({})

    def _take_server(self, toolset: Fields, agent: ImportedAgent) -> None:
        reference = toolset.text("ref")
        fields = toolset
        if reference is not None:
            named = None if self._servers is None else self._servers.inner(reference)
            if named is None:
                toolset.remark(
                    "ref",
                    f"{reference!r} was not carried over: name its `command` or `url` in `spec.mcpServers`",
                )
                return
            fields = named
            if fields.has("ref"):
                fields.remark("ref", "was not carried over: name its `command` or `url` in `spec.mcpServers`")
                return
        name = toolset.text("name") or reference or _name_of(fields)
        remote = fields.inner("remote")
        if remote is not None:
            server = read_server(remote, name)
        else:
            for passed_over in ("type", "name"):
                fields.take(passed_over)
            server = read_server(_without_type(fields), name)
        if server is None:
            return
        some = toolset.texts("tools")
        if some:
            server["tools"] = [*dict.fromkeys(some)]
        servers = _listed(agent, "mcpServers")
        if any(isinstance(each, dict) and each["name"] == server["name"] for each in servers):
            toolset.remark("", f"was not carried over: there is another server {server['name']!r}")
            return
        servers.append(server)


def _without_type(fields: Fields) -> Fields:
    """Here `type` says that it is a toolset, and not how it is spoken to."""
    kept = {key: value for key, value in fields.value.items() if key not in ("type", "name", "ref")}
    return Fields(fields.document, fields.path, kept)


def _name_of(fields: Fields) -> str:
    remote = fields.value.get("remote")
    if isinstance(remote, dict):
        return re.sub(r"^\w+://([^/:?#]{1,200}).*", r"\1", f"{remote.get('url')}"[:300], flags=re.DOTALL)
    command = fields.value.get("command")
    return command.rpartition("/")[2] if isinstance(command, str) and command else "server"


def _listed(agent: ImportedAgent, key: str) -> list[JsonValue]:
    """The list in the agent's spec, made where there is none."""
    found = agent.spec.setdefault(key, [])
    assert isinstance(found, list)
    return found


def _take_scripts(toolset: Fields, agent: ImportedAgent) -> None:
    shell = toolset.inner("shell")
    for key in shell.value if shell else ():
        fields = None if shell is None else shell.inner(key)
        command = None if fields is None else fields.text("cmd")
        if fields is None or not command:
            toolset.remark("shell", f"{key!r} was not carried over: it has no `cmd`")
            continue
        arguments = fields.inner("args")
        properties = dict(arguments.value) if arguments else {}
        required = fields.texts("required")
        folder = fields.text("working_dir")
        script: dict[str, JsonValue] = {
            "name": key,
            "description": fields.text("description") or command[:200],
            "command": ["python3", "-c", _BY_VARIABLES, command],
            "parameters": {
                "type": "object",
                "properties": {name: _typed(value) for name, value in properties.items()},
                "required": [*(properties if required is None else required)],
                "additionalProperties": False,
            },
            "network": "web",
        }
        env = environment_of(fields.inner("env"), key)
        if env:
            script["env"] = env
        if folder not in (None, "", "."):
            fields.remark("working_dir", "was not carried over: it starts in the session's workspace")
        fields.tell_rest({})
        try:
            Script.model_validate(script)
        except ValidationError as error:
            wrong = error.errors()[0]["msg"].removeprefix("Value error, ")
            fields.remark("", f"was not carried over: {wrong}")
            continue
        fields.remark("", "reaches HTTPS (`network: web`), and has side effects unless it says otherwise")
        _listed(agent, "scripts").append(script)
    toolset.tell_rest({})


def _typed(schema: JsonValue) -> JsonValue:
    return {"type": "string", **schema} if isinstance(schema, dict) else {"type": "string"}


def _rules(permissions: Fields | None) -> list[JsonValue]:
    """The file's permissions as approval rules. What none of them names is asked about, as there."""
    if permissions is None:
        return []
    rules = list[JsonValue]()
    for policy in ("deny", "ask", "allow"):
        for text in permissions.texts(policy) or []:
            tool, _, condition = text.partition(":")
            field, _, when = condition.partition("=")
            if not re.fullmatch(r"[A-Za-z_*][A-Za-z0-9_*-]*", tool) or (
                (condition and field not in ("cmd", "path")) or "\n" in when
            ):
                permissions.remark(policy, f"{text!r} was not carried over: write a rule in `spec.approval`")
                continue
            rules.append({"tool": tool, **({"when": when} if when else {}), "policy": policy})
    for tool in ("shell", *sorted(_WRITING_TOOLS)):
        rules.append({"tool": tool, "policy": "ask"})
    permissions.tell_rest({})
    return rules
