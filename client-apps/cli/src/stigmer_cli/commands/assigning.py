"""The verb `assign` of `stigmer agents`, `secrets` and `sessions`: whose a thing is, and who shares it."""

import click

from stigmer_cli.commands.completions import complete_agents, complete_secrets, complete_sessions

_SHARED_WITH = ("nobody", "everybody", "earlier")


def add_assign_command(group: click.Group, collection: str, example: str) -> None:
    """Gives a group the verb. `collection` is that of the HTTP API; its objects have an id or a name."""
    noun = collection.removesuffix("s")
    of_option = click.option("--of", metavar="OWNER", help="Whose it is now, where several have that name.")

    complete = {"agents": complete_agents, "secrets": complete_secrets, "sessions": complete_sessions}

    @click.argument(
        "name", metavar="ID" if noun == "session" else "NAME", shell_complete=complete[collection]
    )
    @click.option(
        "--to", "owner", metavar="OWNER", help="Whose it is from now on; left out: it stays theirs."
    )
    @click.option(
        "--shared-with",
        type=click.Choice(_SHARED_WITH),
        help="Who else sees it, by default nobody; earlier: who had a token when owners came.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    def assign(
        name: str, owner: str | None, shared_with: str | None, as_json: bool, of: str | None = None
    ) -> None:
        _assign(collection, name, owner, shared_with, of, as_json=as_json)

    group.command(
        "assign",
        help=f"Give {'an' if noun == 'agent' else 'a'} {noun} to somebody, or share it.",
        epilog=f"Example: stigmer {collection} assign {example}",
    )(assign if noun == "session" else of_option(assign))


def _assign(
    collection: str, name: str, owner: str | None, shared_with: str | None, of: str | None, *, as_json: bool
) -> None:
    """Asks the server, and says what is so now."""
    from pydantic import ValidationError

    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_session_id
    from stigmer_cli.errors import UsageError
    from stigmer_cli.output import print_json, print_note
    from stigmer_contract.api import SetOwner, SharedWith

    if owner is None and shared_with is None:
        raise UsageError("nothing was said to change", "pass --to OWNER, --shared-with, or both")
    try:
        request = SetOwner(owner=owner, shared_with=SharedWith(shared_with or "nobody"))
    except ValidationError as error:
        raise UsageError(
            f"{owner!r} is no owner's name",
            "write lower-case letters, digits, '.', '@', '_' and '-', at most 63",
        ) from error
    with open_client() as client:
        if collection == "sessions":
            name = find_session_id(client, name, last=False)
        owned = client.set_owner(collection, name, request, of)
    if as_json:
        print_json(owned.model_dump(mode="json"))
        return
    shared = "" if owned.shared_with is SharedWith.NOBODY else f", shared with {owned.shared_with}"
    print_note(f"the {collection.removesuffix('s')} {name!r} is {owned.owner}'s{shared}")
