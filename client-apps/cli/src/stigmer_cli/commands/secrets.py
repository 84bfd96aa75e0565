"""`stigmer secrets`: values that the server keeps for the tools of agents, and tells nobody else."""

import re
import sys

import click

from stigmer_cli.commands.assigning import add_assign_command
from stigmer_cli.commands.completions import complete_secrets


@click.group(epilog="Example: stigmer secrets set GITHUB_TOKEN < token.txt")
def secrets() -> None:
    """Set, list and delete the secrets of agents.

    A manifest names a secret as env: {TOKEN: {secret: NAME}}; the commands of that agent find it as $TOKEN.
    """


@secrets.command("set", epilog="Example: stigmer secrets set GITHUB_TOKEN < token.txt")
@click.argument("name", shell_complete=complete_secrets)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def set_secret(name: str, as_json: bool) -> None:
    """Set a secret to a value that is typed unseen, or comes from standard input.

    There is no argument for the value: everybody on the machine can read arguments. One line end at the end
    of standard input is left out. Executions under way keep the value that they began with until their next
    leg.
    """
    from pydantic import SecretStr

    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.output import print_json, print_note

    _check_name(name)
    with open_client() as client:
        value = _read_value(name)
        secret, is_new = client.set_secret(name, SecretStr(value))
    if as_json:
        print_json(secret.model_dump(mode="json"))
    else:
        print_note(f"{'created' if is_new else 'replaced'} the secret {name}")


@secrets.command("list", epilog="Example: stigmer secrets list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Most secrets.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_secrets(limit: int, as_json: bool) -> None:
    """List secrets by name; nobody is shown their values."""
    from datetime import UTC, datetime

    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.output import print_json
    from stigmer_cli.rendering.quantities import format_age
    from stigmer_cli.rendering.tables import print_owned_table

    with open_client() as client:
        found = client.list_secrets(limit)
    if as_json:
        print_json([secret.model_dump(mode="json") for secret in found])
        return
    now = datetime.now(UTC)
    print_owned_table(
        ["NAME", "CREATED", "UPDATED"],
        [
            [secret.name, format_age(secret.created_at, now), format_age(secret.updated_at, now)]
            for secret in found
        ],
        [secret.owner for secret in found],
        empty="no secrets; `stigmer secrets set NAME` makes one",
    )


@secrets.command("delete", epilog="Example: stigmer secrets delete GITHUB_TOKEN --yes")
@click.argument("name", shell_complete=complete_secrets)
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_secret(name: str, yes: bool) -> None:
    """Delete a secret; agents that need it then fail at once."""
    from stigmer_cli.commands.connecting import confirm_deletion, open_client
    from stigmer_cli.output import print_note

    _check_name(name)
    with open_client() as client:
        confirm_deletion(f"the secret {name!r}", yes)
        client.delete_secret(name)
    print_note(f"deleted the secret {name}")


@secrets.command("rotate-key", epilog="Example: stigmer secrets rotate-key")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rotate_key(as_json: bool) -> None:
    """Encrypt all secrets with a new key.

    Cut off in the middle it loses nothing; run it again. Backups of the database from before need the old
    key file.
    """
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.output import print_json, print_note
    from stigmer_cli.rendering.quantities import plural

    with open_client() as client:
        rotation = client.rotate_secrets_key()
    if as_json:
        print_json(rotation.model_dump(mode="json"))
        return
    print_note(f"encrypted {plural(rotation.reencrypted, 'secret')} with the new key")
    if not rotation.old_keys_removed:
        print_note("the server cannot write the key file: leave only its first line in it now")


add_assign_command(secrets, "secrets", "GITHUB_TOKEN --to alice")


def _check_name(name: str) -> None:
    from stigmer_cli.errors import UsageError
    from stigmer_contract.manifest_parts import SECRET_NAME_PATTERN

    if not re.fullmatch(SECRET_NAME_PATTERN, name):
        # Whoever writes NAME=VALUE must not find the value in a log as well.
        raise UsageError(
            f"{name.partition('=')[0]!r} is not a secret's name: "
            "letters, digits, '_', '.' and '-', at most 253 characters",
            "the value is asked for, or read from standard input; it is never an argument",
        )


def _read_value(name: str) -> str:
    from stigmer_cli.errors import UsageError
    from stigmer_cli.output import is_terminal
    from stigmer_contract.api import check_secret_value

    if is_terminal(sys.stdin):
        value: str = click.prompt(f"Value of {name}", hide_input=True, confirmation_prompt=True, err=True)
    else:
        try:
            value = sys.stdin.buffer.read().decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise UsageError(f"could not set the secret {name}: standard input is not UTF-8 text") from error
    try:
        check_secret_value(value)
    except ValueError as error:
        raise UsageError(f"could not set the secret {name}: {error}") from error
    return value
