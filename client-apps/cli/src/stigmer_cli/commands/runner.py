"""`stigmer runner`: the runner's image and container by themselves; starting and stopping is `server`'s."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from stigmer_cli.commands.image_options import Verify, verify_option
from stigmer_cli.commands.server_logs import logs as server_logs
from stigmer_cli.errors import EnvironmentNotReady, StackNotRunning

if TYPE_CHECKING:
    from stigmer_cli.config import Configuration


@click.group(epilog="Example: stigmer runner status")
def runner() -> None:
    """Pull and inspect the runner's container."""


@runner.command(epilog="Example: stigmer runner pull")
@click.option("--engine", type=click.Choice(["docker", "podman"]), help="Use this engine.")
@verify_option
@click.option("--quiet", is_flag=True, help="Show no progress.")
def pull(engine: str | None, verify: Verify | None, quiet: bool) -> None:
    """Pull the runner's image; a running container stays as it is."""
    from stigmer_cli.output import notes, print_line
    from stigmer_cli.runner.pulling import pull_runner_image

    chosen = pull_runner_image(_configuration(verify), engine, notes(is_quiet=quiet), is_quiet=quiet)
    print_line(f"{chosen.reference} {chosen.digest or chosen.image.image_id}")


@runner.command(epilog="Example: stigmer runner status --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> int:
    """Show how the runner stands now.

    The exit code is 0 where it is ready, else 3.
    """
    from dataclasses import asdict

    from stigmer_cli.commands.server import describe_container
    from stigmer_cli.output import print_json, print_line
    from stigmer_cli.stack.state import RUNNER
    from stigmer_cli.stack.status import stack_status

    current = stack_status(_configuration())
    found = next(component for component in current.components if component.name == RUNNER)
    if as_json:
        container = None if current.container is None else asdict(current.container)
        print_json({**asdict(found), "contained": current.contained, "container": container})
    else:
        print_line(f"{found.phase}{f': {found.reason}' if found.reason else ''}")
        if current.container is not None:
            print_line(describe_container(current.container, current))
    return 0 if found.ready else EnvironmentNotReady.exit_code


@runner.command(epilog="Example: stigmer runner logs --tail 50 -f")
@click.option("-f", "--follow", is_flag=True, help="Go on showing new lines until Ctrl-C.")
@click.option("--since", metavar="TIME", help="From then on: 90s, 10m, 2h, 1d, or an ISO 8601 time.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="The last N lines only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
@click.pass_context
def logs(context: click.Context, follow: bool, since: str | None, tail: int | None, as_json: bool) -> None:
    """Show what the runner says, also one that has ended."""
    context.invoke(server_logs, runner=True, follow=follow, since=since, tail=tail, as_json=as_json)


@runner.command(epilog="Example: stigmer runner shell")
@click.argument("command", nargs=-1)
def shell(command: tuple[str, ...]) -> None:
    """Open a shell in the runner's container, or run COMMAND there."""
    import shutil
    import sys

    from stigmer_cli.output import is_terminal
    from stigmer_cli.runner.plan import read_plan
    from stigmer_cli.stack.status import stack_status

    configuration = _configuration()
    current = stack_status(configuration)
    if not current.running:
        raise StackNotRunning
    plan = read_plan(configuration)
    if plan is None or current.container is None or current.container.name is None:
        raise EnvironmentNotReady(
            "could not open a shell: the runner has no container", "run `stigmer server status` to see it"
        )
    program = shutil.which(plan.engine.value)
    if program is None:
        raise EnvironmentNotReady(
            f"could not open a shell: the program `{plan.engine}` is not installed", "install it"
        )
    terminal = ["--tty"] if is_terminal(sys.stdin) and is_terminal(sys.stdout) else []
    name = current.container.name
    arguments = [plan.engine.value, "exec", "--interactive", *terminal, name, *(command or ("bash",))]
    os.execv(program, arguments)  # noqa: S606  # an argument list, and this process has nothing left to do


def _configuration(verify: Verify | None = None) -> Configuration:
    from dataclasses import replace

    from stigmer_cli.config import load_configuration

    configuration = load_configuration(os.environ)
    return configuration if verify is None else replace(configuration, runner_verify=verify)
