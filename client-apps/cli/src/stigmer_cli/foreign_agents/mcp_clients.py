"""MCP servers as the usual clients write them: `.mcp.json`, `mcp.json` and their like."""

from typing import Final

from pydantic import JsonValue, ValidationError

from stigmer_cli.foreign_agents.foreign_documents import Fields, ForeignDocument
from stigmer_cli.foreign_agents.secret_values import argument_of, environment_of, looks_secret
from stigmer_cli.foreign_agents.written_agents import agent_name
from stigmer_contract.manifest_mcp import McpServer
from stigmer_contract.manifest_parts import RESERVED_NAMES

KEYS: Final = ("mcpServers", "servers", "mcp_servers")
"""Where files have them: most clients, VS Code, and a few others."""
_UNASKED: Final = "was not carried over: a call runs unless `spec.approval` says otherwise"
_REASONS: Final = {
    "cwd": "was not carried over: a server starts in the session's workspace",
    "alwaysAllow": _UNASKED,
    "autoApprove": _UNASKED,
    "trust": _UNASKED,
    "timeout": "was not carried over: `spec.limits.toolTimeout` holds for each call",
    "oauth": "was not carried over: set a token with `stigmer secrets set`, and name it in `headers`",
    "envFile": "was not carried over: set secrets with `stigmer secrets set`, and name them in `env`",
}


def read_mcp_servers(document: ForeignDocument) -> list[dict[str, JsonValue]]:
    """The servers that a file describes, as a manifest names them. The rest is remarked."""
    whole = document.fields()
    if whole is None:
        return []
    inner = whole.inner("mcp")  # VS Code's settings.json
    key = next((key for key in KEYS if whole.has(key)), None)
    if key is None and inner is not None:
        return [] if (of := inner.inner("servers")) is None else _servers(of)
    if key is None:
        whole.remark("", f"there are no MCP servers: no {', '.join(map(repr, KEYS))}")
        return []
    servers = whole.inner(key)
    if whole.has("inputs"):
        whole.take("inputs")
        whole.remark("inputs", "was not carried over: what was asked for is a secret now")
    whole.tell_rest({"$schema": "was passed over"})
    return [] if servers is None else _servers(servers)


def _servers(servers: Fields) -> list[dict[str, JsonValue]]:
    found, names = list[dict[str, JsonValue]](), set[str]()
    for key in servers.value:
        fields = servers.inner(key)
        server = None if fields is None else read_server(fields, key)
        if server is None:
            continue
        name = f"{server['name']}"
        if name in names:
            servers.remark(key, f"was not carried over: there is another server {name!r}")
            continue
        names.add(name)
        found.append(server)
    return found


def read_server(fields: Fields, written_name: str) -> dict[str, JsonValue] | None:
    """One server as a manifest names it; None: it was not carried over, which is remarked."""
    name = server_name(written_name)
    if name != written_name:
        fields.remark("", f"is named {name!r} now")
    if fields.take("disabled") is True or fields.take("enabled") is False:
        fields.remark("", "was not carried over: it is switched off")
        return None
    server: dict[str, JsonValue] = {"name": name}
    url = fields.text("url", "serverUrl", "httpUrl")
    kind = fields.text("type", "transport", "transport_type")
    if url is not None:
        if kind is not None and "sse" in kind:
            fields.remark("", "is asked over streamable HTTP now, not over SSE")
        if looks_secret(url) or "${" in url:
            fields.remark("url", "was not carried over, nor was the server: the address holds a secret")
            return None
        server["url"] = url
        headers = environment_of(fields.inner("headers"), name)
        if headers:
            server["headers"] = headers
    elif not _take_command(fields, server):
        return None
    for field, keys in (
        ("tools", ("tools", "includeTools", "enabledTools")),
        ("exclude", ("excludeTools", "disabledTools")),
    ):
        listed = [name for key in keys for name in fields.texts(key) or [] if name != "*"]
        if listed:
            server[field] = [*dict.fromkeys(listed)]
    fields.tell_rest(_REASONS)
    try:
        McpServer.model_validate(server)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        fields.remark("", f"was not carried over: {place}: {first['msg'].removeprefix('Value error, ')}")
        return None
    return server


def _take_command(fields: Fields, server: dict[str, JsonValue]) -> bool:
    command = fields.take("command")
    arguments = fields.texts("args") or []
    program = [command] if isinstance(command, str) else command if isinstance(command, list) else []
    if not program or not all(isinstance(part, str) and part for part in program):
        fields.remark("", "was not carried over: it has neither `command` nor `url`")
        return False
    written = [f"{part}" for part in program] + [argument_of(fields, "args", each) for each in arguments]
    server["command"] = [*written]
    env = environment_of(fields.inner("env"), f"{server['name']}")
    if env:
        server["env"] = env
    server["network"] = "web"
    fields.remark("", "reaches HTTPS (`network: web`): write `none` where it needs nothing, `all` where more")
    return True


def server_name(text: str) -> str:
    """What a manifest calls a server that a foreign file calls so."""
    name = agent_name(text)
    return f"{name[:56]}-server" if name in RESERVED_NAMES else name
