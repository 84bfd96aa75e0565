"""What commands about existing things share: a client of what runs already, and asking before a delete."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from stigmer_cli.config import Configuration, Connection, load_configuration
from stigmer_cli.errors import StackNotRunning, UsageError
from stigmer_cli.output import is_terminal, print_note
from stigmer_cli.program_version import is_newer, program_version
from stigmer_cli.stack import RunnerWish, ensure_running, restart, running_version

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient


def open_client() -> ApiClient:
    """A client of the running server.

    Raises:
        StackNotRunning: the local stack does not run, and no other server is configured.
    """
    from stigmer_cli.api_client import ApiClient

    return ApiClient(find_connection())


def find_connection() -> Connection:
    """The running server.

    Raises:
        StackNotRunning: the local stack does not run, and no other server is configured.
    """
    configuration = load_configuration(os.environ)
    if configuration.server_endpoint is None and running_version(configuration) is None:
        raise StackNotRunning
    return connect(configuration)


def connect(configuration: Configuration) -> Connection:
    """A server that answers, as `ensure_running`; a stack of another version is offered a restart before.

    Raises:
        ConfigurationError, EnvironmentNotReady: as `ensure_running`.
    """
    if configuration.server_endpoint is None and is_terminal(sys.stdin) and is_terminal(sys.stderr):
        _offer_restart(configuration)
    return ensure_running(configuration, report=print_note)


def _offer_restart(configuration: Configuration) -> None:
    import click

    running = running_version(configuration)
    if running is None or running == program_version() or is_newer(running):
        return
    print_note(f"the running stack is version {running}, and this is {program_version()}")
    question = "Restart it now? A copy of its database is kept, and executions go on afterwards"
    if click.confirm(question, default=True, err=True):
        restart(configuration, report=print_note, runner=RunnerWish())


def confirm_deletion(what: str, confirmed: bool) -> None:
    """Asks the person whether to delete it, as `confirm`."""
    confirm(f"delete {what}", confirmed)


def confirm(act: str, confirmed: bool) -> None:
    """Asks the person whether to do it, unless `--yes` said so.

    Raises:
        UsageError: nobody is there to be asked.
        click.Abort: the person said no.
    """
    import click

    if confirmed:
        return
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise UsageError(f"could not ask whether to {act}: there is no terminal", "pass --yes")
    click.confirm(f"{act[0].upper()}{act[1:]}?", abort=True, err=True)
