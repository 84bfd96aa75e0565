"""What commands about existing things share: a client of what runs already, and asking before a delete."""

import os
import sys

from stigmer_cli.api_client import ApiClient
from stigmer_cli.config import load_configuration
from stigmer_cli.errors import StackNotRunning, UsageError
from stigmer_cli.output import is_terminal, print_note
from stigmer_cli.stack import ensure_running, running_version


def open_client() -> ApiClient:
    """A client of the running server.

    Raises:
        StackNotRunning: the local stack does not run, and no other server is configured.
    """
    configuration = load_configuration(os.environ)
    if configuration.server_endpoint is None and running_version(configuration) is None:
        raise StackNotRunning
    return ApiClient(ensure_running(configuration, report=print_note))


def confirm_deletion(what: str, confirmed: bool) -> None:
    """Asks the person, unless `--yes` said so.

    Raises:
        UsageError: nobody is there to be asked.
        click.Abort: the person said no.
    """
    import click

    if confirmed:
        return
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise UsageError(f"could not ask whether to delete {what}: there is no terminal", "pass --yes")
    click.confirm(f"Delete {what}?", abort=True, err=True)
