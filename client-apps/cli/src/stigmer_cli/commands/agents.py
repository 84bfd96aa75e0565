"""`stigmer agents`: the applied agents."""

import click

from stigmer_cli.commands.assigning import add_assign_command
from stigmer_cli.commands.completions import complete_agents

_MODEL_WIDTH = 32


@click.group()
def agents() -> None:
    """List, show and delete applied agents."""


@agents.command("list", epilog="Example: stigmer agents list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Most agents.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_agents(limit: int, as_json: bool) -> None:
    """List applied agents."""
    from datetime import UTC, datetime

    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.output import print_json
    from stigmer_cli.rendering.cells import shorten
    from stigmer_cli.rendering.quantities import format_age
    from stigmer_cli.rendering.tables import print_owned_table

    with open_client() as client:
        found = client.list_agents(limit)
    if as_json:
        print_json([agent.model_dump(mode="json", by_alias=True, exclude_defaults=True) for agent in found])
        return
    now = datetime.now(UTC)
    rows = [
        [
            agent.name,
            str(agent.version),
            shorten(agent.manifest.spec.model or "default", _MODEL_WIDTH),
            format_age(agent.updated_at, now),
            agent.manifest.spec.description,
        ]
        for agent in found
    ]
    print_owned_table(
        ["NAME", "VERSION", "MODEL", "UPDATED", "DESCRIPTION"],
        rows,
        [agent.owner for agent in found],
        long="DESCRIPTION",
        optional=["UPDATED", "MODEL"],
        empty="no agents; apply one with `stigmer apply -f agent.yaml`",
    )


@agents.command("get", epilog="Example: stigmer agents get report-writer > agent.yaml")
@click.argument("name", shell_complete=complete_agents)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with version and times.")
def get_agent(name: str, as_json: bool) -> None:
    """Print an applied agent's manifest as YAML."""
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.output import print_json, print_line
    from stigmer_cli.rendering.manifest_text import format_manifest

    with open_client() as client:
        agent = client.get_agent(name)
    if as_json:
        print_json(agent.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    else:
        print_line(format_manifest(agent.manifest).removesuffix("\n"))


@agents.command("delete", epilog="Example: stigmer agents delete report-writer --yes")
@click.argument("name", shell_complete=complete_agents)
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_agent(name: str, yes: bool) -> None:
    """Delete an applied agent; its executions stay."""
    from stigmer_cli.commands.connecting import confirm_deletion, open_client
    from stigmer_cli.output import print_note

    with open_client() as client:
        client.get_agent(name)
        confirm_deletion(f"the agent {name!r}", yes)
        client.delete_agent(name)
    print_note(f"deleted the agent {name!r}")


add_assign_command(agents, "agents", "report-writer --shared-with everybody")
