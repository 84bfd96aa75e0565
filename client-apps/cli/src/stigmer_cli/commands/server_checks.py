"""Tries the MCP servers of an agent for `stigmer doctor`: a runner starts each, and asks what it offers."""

import os
from collections.abc import Iterator

from stigmer_cli.api_client import ApiClient
from stigmer_cli.commands.connecting import connect
from stigmer_cli.commands.inspecting import inspect, manifest_of, read_inspected
from stigmer_cli.config import load_configuration
from stigmer_cli.errors import StigmerError
from stigmer_cli.stack.finding import Finding, Outcome
from stigmer_contract.inspections import InspectedServer, Inspection


def check_servers(agent: str) -> Iterator[Finding]:
    """A finding for each of the agent's MCP servers; one, where nobody can look at them."""
    try:
        inspected = read_inspected(agent)
        with ApiClient(connect(load_configuration(os.environ))) as client:
            names = [server.name for server in manifest_of(client, inspected).spec.mcp_servers]
            if not names:
                yield Finding(f"MCP servers of {agent}", Outcome.PASSED, "it has none")
                return
            report = inspect(client, inspected, Inspection(servers=names), "ask the MCP servers")
    except StigmerError as error:
        yield Finding(f"MCP servers of {agent}", Outcome.FAILED, error.message, error.hint)
        return
    yield from (_finding(agent, server) for server in report.servers)


def _finding(agent: str, server: InspectedServer) -> Finding:
    name = f"MCP server {server.server} of {agent}"
    if server.error is not None:
        return Finding(name, Outcome.FAILED, server.error, "mend it, and see that the runner can start it")
    offers = f"{server.tools} tools, protocol {server.protocol}, {server.seconds:.2f} s"
    if server.left_out:
        left_out = f"{offers}; left out: {', '.join(server.left_out)}"
        return Finding(name, Outcome.WARNING, left_out, f"see `stigmer mcp inspect {agent} {server.server}`")
    return Finding(name, Outcome.PASSED, offers)
