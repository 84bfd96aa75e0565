"""`executions grants` and `executions revoke`: kinds of calls that run without a question."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from stigmer_cli.commands.completions import complete_executions

if TYPE_CHECKING:
    from stigmer_contract.api import GrantResource


@click.command(epilog="Example: stigmer executions grants 4k2x9q")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_executions)
@click.option("--last", is_flag=True, help="The newest one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def grants(given: str | None, last: bool, as_json: bool) -> None:
    """List the kinds of calls that you approved for an execution once for all."""
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_execution_id
    from stigmer_cli.output import print_json
    from stigmer_cli.rendering.inputs import print_grants

    with open_client() as client:
        found = client.list_grants(find_execution_id(client, given, last=last))
    if as_json:
        print_json([each.model_dump(mode="json") for each in found])
    else:
        print_grants(found)


@click.command(epilog="Example: stigmer executions revoke 4k2x9q")
@click.argument("given", metavar="ID", shell_complete=complete_executions)
@click.argument("grant", metavar="GRANT", required=False)
@click.option("--all", "revokes_all", is_flag=True, help="All of the execution's.")
def revoke(given: str, grant: str | None, revokes_all: bool) -> None:
    """Ask again about calls of a kind that was approved once for all.

    GRANT is an id that `executions grants` shows, or a part of it; it can be left out where there is only
    one. A call that runs already is not stopped.
    """
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_execution_id
    from stigmer_cli.output import print_note
    from stigmer_cli.rendering.inputs import describe_rule

    with open_client() as client:
        execution_id = find_execution_id(client, given, last=False)
        held = [each for each in client.list_grants(execution_id) if each.revoked_at is None]
        for each in _meant(held, grant, revokes_all=revokes_all):
            client.revoke_grant(execution_id, each.input_id)
            print_note(f"asked about again: {describe_rule(each.rule)}")


def _meant(
    held: "Sequence[GrantResource]", grant: str | None, *, revokes_all: bool
) -> "Sequence[GrantResource]":
    """The grants that are meant.

    Raises:
        StigmerError: there is none.
        UsageError: it is not clear which.
    """
    from stigmer_cli.errors import StigmerError, UsageError
    from stigmer_cli.rendering.inputs import describe_rule

    if grant is not None and revokes_all:
        raise UsageError("there is a grant, and --all too")
    part = (grant or "").lower()
    fitting = [each for each in held if part in ("", each.input_id) or each.input_id.endswith(part)]
    if not fitting:
        of = f" like {grant!r}" if grant else ""
        raise StigmerError(
            f"no kind of call{of} is approved once for all", "`stigmer executions grants ID` lists them"
        )
    if len(fitting) > 1 and not revokes_all:
        listed = "; ".join(f"{each.input_id[-6:]}: {describe_rule(each.rule)}" for each in fitting[:5])
        raise UsageError(f"{len(fitting)} are approved: {listed}", "name one of them, or pass --all")
    return fitting
