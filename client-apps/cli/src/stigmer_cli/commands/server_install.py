"""`stigmer server install|uninstall`: the stack starts by itself after a reboot."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from stigmer_cli.commands.start_options import local_configuration

if TYPE_CHECKING:
    from stigmer_cli.stack.boot_service import FoundSettings


@click.command(epilog="Example: stigmer server install")
@click.option("--yes", is_flag=True, help="Store settings and keys of this environment without asking.")
@click.option("--print", "only_print", is_flag=True, help="Show the unit or agent, and change nothing.")
def install(yes: bool, only_print: bool) -> None:
    """Start the stack when you log in, by systemd or launchd.

    Settings that stand in this environment alone are listed and stored: in config.yaml, keys in a file that
    only you can read, none of them in the unit.
    """
    from stigmer_cli.output import print_line, print_note
    from stigmer_cli.stack import boot_registration
    from stigmer_cli.stack.boot_service import find_settings
    from stigmer_cli.stack.local_components import require_programs

    configuration = local_configuration("install")
    path = os.environ.get("PATH", os.defpath)
    manager = boot_registration.find_service_manager(os.environ)
    if only_print:
        print_line(manager.render(configuration, path).rstrip("\n"))
        return
    require_programs(configuration)
    manager.require()
    found = find_settings(configuration, os.environ)
    if found.settings or found.variables:
        _agree_to_store(found, yes)
    boot_registration.install(manager, configuration, path, found)
    print_note(f"wrote {manager.file}; {manager.when_started()}")


@click.command(epilog="Example: stigmer server uninstall")
def uninstall() -> None:
    """Have the stack not start by itself any more, and forget the keys that `install` stored."""
    from stigmer_cli.config import load_configuration
    from stigmer_cli.output import print_note
    from stigmer_cli.stack import boot_registration

    configuration = load_configuration(os.environ)
    manager = boot_registration.find_service_manager(os.environ)
    was_installed = boot_registration.uninstall(manager, configuration)
    print_note(f"removed {manager.file}" if was_installed else "the stack was not installed")


def _agree_to_store(found: FoundSettings, yes: bool) -> None:
    from stigmer_cli.errors import UsageError
    from stigmer_cli.output import is_terminal, print_note

    print_note("these stand in this environment alone, and would not hold in a start by the system:")
    for key in found.settings:
        print_note(f"  {key}  → config.yaml")
    for name in found.variables:
        print_note(f"  {name}  → environment.json, which only you can read")
    if yes:
        return
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise UsageError("could not ask whether to store them: there is no terminal", "pass --yes")
    click.confirm("Store them?", default=True, abort=True, err=True)
