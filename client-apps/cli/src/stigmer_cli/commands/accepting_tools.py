"""What `apply` does about the tools of an agent's MCP servers: shows what changed, and has it accepted."""

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient
    from stigmer_contract.tool_lists import PinnedServer


def settle_tools(client: "ApiClient", agent: str, *, accept: bool) -> list[dict[str, object]]:
    """Have the servers asked what they offer, and pin that; accept what changed with `accept`, or where the
    person says so. Where no runner is there, or a server cannot be asked, that is said: a run pins then.

    Returns:
        For each server its name, the number of pinned tools, and what stands: `pinned`, `not_pinned_yet`,
        `accepted` or `changed`.
    """
    from stigmer_cli.output import print_note
    from stigmer_contract.tool_lists import describe_difference

    _look(client, agent)
    settled: list[dict[str, object]] = []
    for server in client.get_tool_pins(agent).servers:
        state = "pinned"
        if server.pinned is None:
            print_note(f"MCP server {server.server}: its tools are not pinned yet; the first run does that")
            state = "not_pinned_yet"
        elif server.found is not None:
            print_note(f"MCP server {server.server} offers other tools than were pinned:")
            for line in describe_difference(server.pinned, server.found):
                print_note(f"  {line}")
            state = _settle(client, agent, server, accept)
        pinned = server.found if state == "accepted" else server.pinned
        count = None if pinned is None else len(pinned.tools)
        settled.append({"server": server.server, "state": state, "tools": count})
    return settled


def _look(client: "ApiClient", agent: str) -> None:
    """Let a runner ask the servers, which the server is told of."""
    from stigmer_cli.commands.inspecting import InspectedAgent, NoRunner, inspect
    from stigmer_cli.errors import CallRefused, ExecutionFailed
    from stigmer_cli.output import print_note
    from stigmer_contract.inspections import Inspection

    names = [server.server for server in client.get_tool_pins(agent).servers]
    try:
        inspection = Inspection(servers=names)
        inspected = InspectedAgent(agent, None)
        report = inspect(client, inspected, inspection, "ask the MCP servers what they offer")
    except (NoRunner, ExecutionFailed, CallRefused) as error:
        # The agent is applied all the same: a secret may come later, and so may a runner.
        print_note(f"could not look at the tools of its MCP servers: {error.message}")
        return
    for server in report.servers:
        if server.error is not None:
            print_note(f"MCP server {server.server}: {server.error}")


def _settle(client: "ApiClient", agent: str, server: "PinnedServer", accept: bool) -> str:
    from stigmer_cli.output import is_terminal, print_note

    assert server.found is not None
    if not accept and is_terminal(sys.stdin) and is_terminal(sys.stderr):
        accept = click.confirm(f"Accept the tools of {server.server} as they are now?", err=True)
    if not accept:
        print_note("  not accepted: those that changed stay refused; see `--accept-tools`")
        return "changed"
    client.accept_tools(agent, server.server, server.found.digest)
    print_note("  accepted")
    return "accepted"
