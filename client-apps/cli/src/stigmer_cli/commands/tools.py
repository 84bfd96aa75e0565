"""`stigmer tools`: what an agent's model is shown, and what is held of it."""

import click

from stigmer_cli.commands.completions import complete_runnable


@click.command(epilog="Example: stigmer tools report-writer")
@click.argument("agent", shell_complete=complete_runnable)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with descriptions and schemas.")
def tools(agent: str, as_json: bool) -> None:
    """Show the tools that an agent's model is offered.

    With the tokens that each takes of every request, whether a call changes something, and the approval rules
    that it is held against. MCP servers are started for that. AGENT is a manifest, a folder with an
    agent.yaml, or the name of an applied agent.
    """
    import os

    from stigmer_cli.api_client import ApiClient
    from stigmer_cli.commands.connecting import connect
    from stigmer_cli.commands.inspecting import inspect, read_inspected
    from stigmer_cli.config import load_configuration
    from stigmer_cli.output import print_json
    from stigmer_cli.rendering.shown_tools import print_tools
    from stigmer_contract.inspections import Inspection

    inspected = read_inspected(agent)
    with ApiClient(connect(load_configuration(os.environ))) as client:
        report = inspect(client, inspected, Inspection(), "look at the agent's tools")
    if as_json:
        print_json(report.model_dump(mode="json", exclude={"result"}))
        return
    print_tools(report)
