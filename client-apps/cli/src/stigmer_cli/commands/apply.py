"""`stigmer apply`: brings the server's agents to what manifests say."""

import os

import click

from stigmer_cli.commands.completions import complete_files


@click.command(epilog="Example: stigmer apply -f agent.yaml")
@click.option(
    "-f",
    "--file",
    "paths",
    metavar="FILE|DIR",
    shell_complete=complete_files,
    required=True,
    multiple=True,
    help="Manifests; - is standard input. Can be given several times.",
)
@click.option("--accept-tools", is_flag=True, help="Pin what MCP servers offer now, without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print the applied agents as JSON.")
def apply(paths: tuple[str, ...], accept_tools: bool, as_json: bool) -> None:
    """Create or update the agents of manifests.

    A folder means every agent.yaml in it and below. Nothing is applied where one of them has a problem.
    Starts the stack where it is not running. Where an MCP server was found to offer other tools than were
    pinned, the difference is shown; exit code 4 where it is not accepted.
    """
    from stigmer_cli.api_client import ApiClient
    from stigmer_cli.commands.accepting_tools import settle_tools
    from stigmer_cli.commands.agent_packs import pack_agents
    from stigmer_cli.commands.connecting import connect
    from stigmer_cli.commands.manifest_files import (
        check_cassette,
        check_supported,
        find_all_manifest_files,
        read_manifest_files,
        with_model,
    )
    from stigmer_cli.config import load_configuration
    from stigmer_cli.errors import ToolsNotAccepted
    from stigmer_cli.output import print_json, print_line

    files = read_manifest_files(find_all_manifest_files(paths))
    for file in files:
        check_supported(file, "apply")
    packed = pack_agents(files)
    cassettes = [check_cassette(file) for file in files]
    changes: list[dict[str, object]] = []
    changed: list[str] = []
    with ApiClient(connect(load_configuration(os.environ))) as client:
        for agent_files, cassette in zip(packed, cassettes, strict=True):
            manifest = agent_files.manifest
            agent_files.upload(client)
            if cassette:
                manifest = with_model(manifest, f"replay:sha256:{client.upload_blob(cassette.content)}")
            result = client.apply_agent(manifest)
            agent = result.agent
            change: dict[str, object] = {
                "name": agent.name,
                "version": agent.version,
                "change": result.change,
            }
            changes.append(change)
            if not as_json:
                print_line(f"agent {agent.name} {result.change} (version {agent.version})")
            if manifest.spec.mcp_servers:
                settled = settle_tools(client, agent.name, accept=accept_tools)
                change["tools"] = settled
                changed += [
                    f"{agent.name}/{each['server']}" for each in settled if each["state"] == "changed"
                ]
    if as_json:
        print_json(changes)
    if changed:
        raise ToolsNotAccepted(changed)
