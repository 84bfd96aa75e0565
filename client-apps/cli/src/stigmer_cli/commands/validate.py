"""`stigmer validate`: reads manifests and says everything that is wrong with them. Needs no server."""

import click

from stigmer_cli.commands.completions import complete_files


@click.command(epilog="Example: stigmer validate -f agent.yaml")
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
@click.option("--json", "as_json", is_flag=True, help="Print the agents as JSON.")
def validate(paths: tuple[str, ...], as_json: bool) -> None:
    """Check manifests without applying them.

    A folder means every agent.yaml in it and below. Each problem is told with file, line and column, and
    with what would be right; the exit code is then 1.
    """
    from stigmer_cli.commands.agent_packs import pack_agents
    from stigmer_cli.commands.manifest_files import (
        check_cassette,
        find_all_manifest_files,
        read_manifest_files,
    )
    from stigmer_cli.output import print_json, print_line, print_note
    from stigmer_contract.manifest import unsupported_fields

    files = read_manifest_files(find_all_manifest_files(paths))
    pack_agents(files)
    for file in files:
        check_cassette(file)
        for field in unsupported_fields(file.manifest.spec):
            print_note(f"note: {file.source}: {field} is valid, and not supported yet")
    if as_json:
        print_json(
            [{"name": file.manifest.metadata.name, "file": file.source, "valid": True} for file in files]
        )
        return
    for file in files:
        print_line(f"{file.source}: agent {file.manifest.metadata.name} is valid")
