"""`stigmer webhooks`: where the server says that something waits for a person."""

import click

_EVENTS = ("input.requested", "input.reminded", "input.resolved")


@click.group()
def webhooks() -> None:
    """Tell a URL when an execution asks something of a person.

    Messages are signed as Standard Webhooks are, and hold a link that answers where the server is set to an
    address (STIGMER_PUBLIC_URL).
    """


@webhooks.command("add", epilog="Example: stigmer webhooks add ops https://example.com/hooks/stigmer")
@click.argument("name")
@click.argument("url")
@click.option(
    "--event",
    "events",
    type=click.Choice(_EVENTS),
    multiple=True,
    help="What it is told of; may be given again. Default: input.requested.",
)
@click.option("--only-escalations", is_flag=True, help="Only what a rule of approval escalates to it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def add_webhook(name: str, url: str, events: tuple[str, ...], only_escalations: bool, as_json: bool) -> None:
    """Make a webhook and print the secret that its messages are signed with, this once."""
    from pydantic import ValidationError

    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.errors import UsageError
    from stigmer_cli.output import print_json, print_line, print_note
    from stigmer_contract.webhooks import CreateWebhook, WebhookEvent

    if events and only_escalations:
        raise UsageError("--event and --only-escalations exclude each other")
    told = [WebhookEvent(event) for event in events] or [WebhookEvent.INPUT_REQUESTED]
    try:
        request = CreateWebhook(name=name, url=url, events=[] if only_escalations else told)
    except ValidationError as error:
        [found, *_] = error.errors()
        if found["loc"] == ("name",):
            raise UsageError(
                f"{name!r} is no name for a webhook",
                "write lower-case letters, digits and dashes, at most 63",
            ) from error
        raise UsageError(f"{url!r} is not a URL; write https://HOST/PATH") from error
    with open_client() as client:
        created = client.create_webhook(request)
    if as_json:
        print_json(created.model_dump(mode="json"))
        return
    print_line(created.secret)
    print_note(f"webhook {name!r} is made; its secret cannot be shown again")
    print_note(f"`stigmer webhooks test {name}` sends it a message that tells of nothing")


@webhooks.command("list", epilog="Example: stigmer webhooks list")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Most webhooks."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_webhooks(limit: int, as_json: bool) -> None:
    """List webhooks, and whether they take what they are told."""
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.output import print_json
    from stigmer_cli.rendering.tables import print_table

    with open_client() as client:
        found = client.list_webhooks(limit)
    if as_json:
        print_json([webhook.model_dump(mode="json") for webhook in found])
        return
    rows = [
        [
            webhook.name,
            ", ".join(webhook.events) or "escalations",
            str(webhook.waiting),
            webhook.last_problem or "-",
            webhook.url,
        ]
        for webhook in found
    ]
    print_table(
        ["NAME", "EVENTS", "WAITING", "LAST PROBLEM", "URL"],
        rows,
        empty="no webhooks; make one with `stigmer webhooks add NAME URL`",
    )


@webhooks.command("test", epilog="Example: stigmer webhooks test ops")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def test_webhook(name: str, as_json: bool) -> None:
    """Send a webhook a message that tells of nothing, and say what became of it."""
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.errors import StigmerError
    from stigmer_cli.output import print_json, print_note

    with open_client() as client:
        result = client.test_webhook(name)
    if as_json:
        print_json(result.model_dump(mode="json"))
    if not result.delivered:
        raise StigmerError(f"webhook {name!r} did not take the message: {result.problem}")
    print_note(f"webhook {name!r} took the message")


@webhooks.command("delete", epilog="Example: stigmer webhooks delete ops --yes")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_webhook(name: str, yes: bool) -> None:
    """Delete a webhook; links that it was told answer nothing any more."""
    from stigmer_cli.commands.connecting import confirm_deletion, open_client
    from stigmer_cli.output import print_note

    with open_client() as client:
        confirm_deletion(f"the webhook {name!r}", yes)
        client.delete_webhook(name)
    print_note(f"deleted the webhook {name!r}")
