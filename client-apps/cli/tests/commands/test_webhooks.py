"""`stigmer webhooks`: made, listed, tried and deleted."""

import json

from cli_harness import Command


def test_a_webhook_is_made_listed_tried_and_deleted(command: Command) -> None:
    added = command.run("webhooks", "add", "ops", "https://localhost:1/hook", "--event", "input.resolved")
    assert added.exit_code == 0, added.stderr
    assert added.stdout.startswith("whsec_")
    listed = json.loads(command.run("webhooks", "list", "--json").stdout)
    assert [(each["name"], each["events"], each["waiting"]) for each in listed] == [
        ("ops", ["input.resolved"], 0)
    ]
    assert added.stdout.strip() not in command.run("webhooks", "list", "--json").stdout
    assert "https://localhost:1/hook" in command.run("webhooks", "list").stdout

    tried = command.run("webhooks", "test", "ops")
    assert (tried.exit_code, tried.stderr) == (
        1,
        "error: webhook 'ops' did not take the message: the host 'localhost' has an address that is not "
        "public\n",
    )
    assert command.run("webhooks", "delete", "ops").exit_code == 2
    assert command.run("webhooks", "delete", "ops", "--yes").stderr == "deleted the webhook 'ops'\n"
    assert command.run("webhooks", "list").stdout == ""


def test_what_cannot_be_one_is_told(command: Command) -> None:
    name = command.run("webhooks", "add", "No Name", "https://example.com")
    assert (name.exit_code, name.stderr.splitlines()[0]) == (2, "error: 'No Name' is no name for a webhook")
    url = command.run("webhooks", "add", "ops", "http://example.com")
    assert (url.exit_code, url.stderr.splitlines()[0]) == (
        1,
        "error: 'http://example.com' is not encrypted; write https://, or allow the host on the server",
    )
    options = ("--event", "input.resolved", "--only-escalations")
    both = command.run("webhooks", "add", "ops", "https://example.com", *options)
    assert both.exit_code == 2
