"""`stigmer mcp`: the MCP servers of agents."""

from typing import TYPE_CHECKING

import click

from stigmer_cli.commands.completions import complete_agents, complete_runnable

if TYPE_CHECKING:
    from pydantic import JsonValue

    from stigmer_contract.manifest_mcp import McpServer
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
        agents = [client.get_agent(agent)] if agent is not None else client.list_agents(limit)
        for each in agents:
            servers = each.manifest.spec.mcp_servers
            if not servers:
                continue
            known = {one.server: one for one in client.get_tool_pins(each.name).servers}
            for server in servers:
                place = {"agent": each.name, "server": server.name, "at": _where(server)}
                found.append(place | _state(known[server.name]))
    if as_json:
        print_json(found)
        return
    rows = [[str(each[key]) for key in ("agent", "server", "tools", "state", "at")] for each in found]
    print_table(
        ["AGENT", "SERVER", "TOOLS", "STATE", "COMMAND OR URL"],
        rows,
        long="COMMAND OR URL",
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

    return server.url or shlex.join(server.command or [])


def _state(known: "PinnedServer") -> dict[str, object]:
    if known.pinned is None:
        return {"tools": "-", "state": "not pinned yet"}
    count = len(known.pinned.tools)
    if known.found is not None:
        return {"tools": count, "state": "changed"}
    return {"tools": count, "state": "pinned" if known.pin else "known"}
