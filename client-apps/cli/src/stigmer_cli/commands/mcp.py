"""`stigmer mcp`: the MCP servers of agents."""

from typing import TYPE_CHECKING

import click

from stigmer_cli.commands.completions import complete_agents, complete_runnable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from stigmer_contract.manifest_mcp import McpServer
    from stigmer_contract.mcp_logins import McpLogin
    from stigmer_contract.tool_lists import PinnedServer


@click.group()
def mcp() -> None:
    """Look at the MCP servers of agents, and call their tools."""


@mcp.command("list", epilog="Example: stigmer mcp list")
@click.argument("agent", required=False, shell_complete=complete_agents)
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Most agents.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_servers(agent: str | None, limit: int, as_json: bool) -> None:
    """List the MCP servers of applied agents, and what is pinned of them. Starts none."""
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.output import print_json
    from stigmer_cli.rendering.tables import print_table

    found: list[dict[str, object]] = []
    with open_client() as client:
        logins = {login.url: login for login in client.list_mcp_logins()}
        agents = [client.get_agent(agent)] if agent is not None else client.list_agents(limit)
        for each in agents:
            servers = each.manifest.spec.mcp_servers
            if not servers:
                continue
            known = {one.server: one for one in client.get_tool_pins(each.name).servers}
            for server in servers:
                place = {"agent": each.name, "server": server.name, "at": _where(server)}
                found.append(place | _state(known[server.name]) | _login(server, logins))
    if as_json:
        print_json(found)
        return
    rows = [
        [str(each[key]) for key in ("agent", "server", "tools", "state", "login", "at")] for each in found
    ]
    print_table(
        ["AGENT", "SERVER", "TOOLS", "STATE", "LOGIN", "COMMAND OR URL"],
        rows,
        long="COMMAND OR URL",
        optional=["LOGIN"],
        empty="no applied agent has an MCP server",
    )


@mcp.command("inspect", epilog="Example: stigmer mcp inspect report-writer github")
@click.argument("agent", shell_complete=complete_runnable)
@click.argument("servers", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with descriptions and schemas.")
def inspect_servers(agent: str, servers: tuple[str, ...], as_json: bool) -> None:
    """Start an agent's MCP servers, and show what they offer now.

    Without SERVERS all of them. AGENT is a manifest, a folder with an agent.yaml, or the name of an applied
    agent. Exit code 1 where one of them cannot be asked.
    """
    import os

    from stigmer_cli.api_client import ApiClient
    from stigmer_cli.commands.connecting import connect
    from stigmer_cli.commands.inspecting import inspect, manifest_of, read_inspected
    from stigmer_cli.config import load_configuration
    from stigmer_cli.errors import StigmerError, UsageError
    from stigmer_cli.output import print_json, print_note
    from stigmer_cli.rendering.shown_tools import print_tools
    from stigmer_contract.inspections import Inspection

    inspected = read_inspected(agent)
    with ApiClient(connect(load_configuration(os.environ))) as client:
        names = [server.name for server in manifest_of(client, inspected).spec.mcp_servers]
        if not names:
            raise UsageError(f"the agent {agent!r} has no MCP servers")
        for server in servers:
            if server not in names:
                raise UsageError(
                    f"the agent {agent!r} has no MCP server {server!r}; it has {', '.join(names)}"
                )
        wanted = Inspection(servers=list(servers) or names)
        report = inspect(client, inspected, wanted, "ask the MCP servers what they offer")
    if as_json:
        print_json(report.model_dump(mode="json", exclude={"result"}))
    else:
        for one in report.servers:
            if one.error is None:
                offers = f"{one.tools} tools, protocol {one.protocol}, {one.seconds:.2f} s"
                print_note(f"MCP server {one.server}: {offers}")
        print_tools(report)
    failed = [one.server for one in report.servers if one.error is not None]
    if failed:
        raise StigmerError(f"could not ask {', '.join(failed)}")


@mcp.command("call", epilog="Example: stigmer mcp call report-writer github/get_issue '{\"number\": 7}'")
@click.argument("agent", shell_complete=complete_runnable)
@click.argument("tool", metavar="SERVER/TOOL")
@click.argument("arguments", metavar="ARGUMENTS", default="{}")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
def call_tool(agent: str, tool: str, arguments: str, as_json: bool) -> None:
    """Call a tool of an agent's MCP server by hand.

    ARGUMENTS is a JSON object; - reads it from standard input. The call is written into the log of an
    execution of its own. The agent's approval rules are for its model, and not asked.
    """
    import os

    from stigmer_cli.api_client import ApiClient
    from stigmer_cli.commands.connecting import connect
    from stigmer_cli.commands.inspecting import inspect, read_inspected
    from stigmer_cli.config import load_configuration
    from stigmer_cli.errors import ExecutionFailed, UsageError
    from stigmer_cli.output import print_json, print_line
    from stigmer_contract.conversation import ToolOutcome
    from stigmer_contract.inspections import CalledTool, Inspection

    server, slash, name = tool.partition("/")
    if not (server and slash and name):
        raise UsageError(
            f"{tool!r} names no tool of a server", "name it as SERVER/TOOL, such as github/get_issue"
        )
    called = CalledTool(server=server, tool=name, arguments=_arguments(arguments))
    inspected = read_inspected(agent)
    with ApiClient(connect(load_configuration(os.environ))) as client:
        report = inspect(client, inspected, Inspection(call=called), f"call {tool}", keeps=True)
    result = report.result
    assert result is not None
    if as_json:
        print_json(result.to_json())
    elif result.outcome is ToolOutcome.SUCCEEDED:
        print_line(result.text)
    if result.outcome is not ToolOutcome.SUCCEEDED:
        raise ExecutionFailed(f"the call of {tool} has the outcome {result.outcome}: {result.text}")


@mcp.command("login", epilog="Example: stigmer mcp login report-writer/wiki")
@click.argument("where", metavar="AGENT/SERVER|SERVER|URL|INPUT")
@click.option("--scope", "scopes", multiple=True, help="Ask for this too. Can be given several times.")
@click.option("--no-browser", is_flag=True, help="Only print the link.")
@click.option("--json", "as_json", is_flag=True, help="Print the sign-in as JSON.")
def login(where: str, scopes: tuple[str, ...], no_browser: bool, as_json: bool) -> None:
    """Sign in at an MCP server (OAuth), for all of your agents that call it.

    Opens the server's page in a browser, or prints its link where there is none; an address that a browser
    elsewhere was sent to can be pasted. The server keeps what it gets, encrypted, and renews it. Executions
    that wait for the sign-in go on.
    """
    from dataclasses import asdict

    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.mcp_sign_in import find_server, sign_in
    from stigmer_cli.output import print_json, print_note

    with open_client() as client:
        wanted = {name: value for name, value in asdict(find_server(client, where)).items() if value}
        signed_in = sign_in(client, {**wanted, "scopes": list(scopes)}, opens_browser=not no_browser)
    if as_json:
        print_json(signed_in.model_dump(mode="json"))
    else:
        print_note(f"signed in at {signed_in.url}")


@mcp.command("logout", epilog="Example: stigmer mcp logout report-writer/wiki")
@click.argument("where", metavar="AGENT/SERVER|SERVER|URL")
def logout(where: str) -> None:
    """Forget your sign-in at an MCP server, and take it back where the server lets that be done."""
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.mcp_sign_in import url_of
    from stigmer_cli.errors import CallRefused, StigmerError
    from stigmer_cli.output import print_note
    from stigmer_contract.error_codes import ErrorCode
    from stigmer_contract.mcp_logins import login_id_of

    with open_client() as client:
        url = url_of(client, where)
        try:
            client.forget_mcp_login(login_id_of(url))
        except CallRefused as error:
            if error.code != ErrorCode.NOT_FOUND:
                raise
            raise StigmerError(f"you are not signed in at {url}") from error
    print_note(f"signed out at {url}")


def _arguments(text: str) -> "dict[str, JsonValue]":
    import json
    import sys
    from typing import cast

    from stigmer_cli.errors import UsageError

    try:
        value: object = json.loads(sys.stdin.read() if text == "-" else text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the arguments are no JSON: {error}", "give a JSON object, such as '{}'") from error
    if not isinstance(value, dict):
        raise UsageError("the arguments are no JSON object", "give one, such as '{\"number\": 7}'")
    return cast("dict[str, JsonValue]", value)


def _where(server: "McpServer") -> str:
    import shlex

    return server.url or shlex.join(server.command or [server.package or "", *server.args])


def _state(known: "PinnedServer") -> dict[str, object]:
    if known.pinned is None:
        return {"tools": "-", "state": "not pinned yet"}
    count = len(known.pinned.tools)
    if known.found is not None:
        return {"tools": count, "state": "changed"}
    return {"tools": count, "state": "pinned" if known.pin else "known"}


def _login(server: "McpServer", logins: "Mapping[str, McpLogin]") -> dict[str, object]:
    from stigmer_contract.mcp_logins import resource_of

    known = None
    if server.url is not None and server.takes_logins:
        try:
            known = logins.get(resource_of(server.url))
        except ValueError:
            known = None
    if known is None:
        return {"login": "-"}
    return {"login": "signed in" if known.problem is None else "over"}
