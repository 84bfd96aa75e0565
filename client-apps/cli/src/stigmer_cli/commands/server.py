"""`stigmer server`: starts, stops and shows the local stack, for which `stigmer_cli.stack` does the work."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from stigmer_cli.commands.server_logs import logs
from stigmer_cli.errors import EnvironmentNotReady, NotYet, UsageError

if TYPE_CHECKING:
    from stigmer_cli.config import Configuration
    from stigmer_cli.stack.status import ComponentStatus, StackStatus

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])


@click.group(epilog="Example: stigmer server start")
def server() -> None:
    """Start, stop and inspect the local stack."""


server.add_command(logs)


def _start_options(function: FunctionT) -> FunctionT:
    for option in (
        click.option("--wait/--no-wait", default=True, help="Wait until all of it is ready (default)."),
        click.option("--use-local-image", is_flag=True, help="Use an image built on this machine."),
        click.option(
            "--engine", type=click.Choice(["docker", "podman"]), help="Run the runner in a container."
        ),
        click.option("--native", is_flag=True, help="Run the runner as a plain process (default)."),
    ):
        function = option(function)
    return function


@server.command(epilog="Example: stigmer server start --no-wait")
@_start_options
def start(native: bool, engine: str | None, use_local_image: bool, wait: bool) -> None:
    """Start the stack; where it runs, nothing changes."""
    _refuse_containers(native, engine, use_local_image)
    _start(_configuration(), wait)


@server.command(epilog="Example: stigmer server restart")
@_start_options
def restart(native: bool, engine: str | None, use_local_image: bool, wait: bool) -> None:
    """Stop the stack, then start it with the settings of now."""
    from stigmer_cli import stack

    _refuse_containers(native, engine, use_local_image)
    configuration = _configuration()
    stack.stop(configuration)
    _start(configuration, wait)


@server.command(epilog="Example: stigmer server stop")
def stop() -> None:
    """End all of the stack within 10 seconds.

    Executions that are not done go on at the next start.
    """
    from stigmer_cli import stack
    from stigmer_cli.output import print_note

    was_running = stack.stop(_configuration())
    print_note("the stack has stopped" if was_running else "the stack is not running")


@server.command(epilog="Example: stigmer server status --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> int:
    """Show how each part stands now.

    The exit code is 0 where all parts are ready, else 3.
    """
    from dataclasses import asdict

    from stigmer_cli.output import print_json, print_note
    from stigmer_cli.stack import UNCONTAINED_NOTE
    from stigmer_cli.stack.status import stack_status

    current = stack_status(_configuration())
    if as_json:
        print_json(asdict(current))
    else:
        click.echo(_describe(current))
        if current.running:
            print_note(f"note: {UNCONTAINED_NOTE}")
        else:
            print_note("the stack is not running; run `stigmer server start`")
    return 0 if current.ready else EnvironmentNotReady.exit_code


def _configuration() -> Configuration:
    from stigmer_cli.config import load_configuration

    return load_configuration(os.environ)


def _refuse_containers(native: bool, engine: str | None, use_local_image: bool) -> None:
    if native and (engine or use_local_image):
        raise UsageError(
            "`--native` runs no container, so it cannot go with `--engine` or `--use-local-image`"
        )
    if engine or use_local_image:
        flag = "--engine" if engine else "--use-local-image"
        raise NotYet(
            f"could not start the runner in a container: `{flag}` does not work yet",
            "leave the flag out to run the runner as a plain process",
        )


def _start(configuration: Configuration, wait: bool) -> None:
    from stigmer_cli import stack
    from stigmer_cli.output import print_note

    started = stack.start(configuration, report=print_note, wait=wait)
    if not started:
        print_note("the stack is already running; see `stigmer server status`")
    elif wait:
        print_note("the stack is ready; run `stigmer run AGENT PROMPT`, or end it with `stigmer server stop`")
    else:
        print_note("the stack is starting; see `stigmer server status`")


def _describe(current: StackStatus) -> str:
    rows = [("PART", "PHASE", "PID", "ADDRESS", "VERSION", "UPTIME", "RESTARTS")]
    rows += [_row(component) for component in current.components]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines: list[str] = []
    for row, component in zip(rows, [None, *current.components], strict=True):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if component is not None and component.reason:
            lines.append(f"  {component.reason}")
    return "\n".join(lines)


def _row(component: ComponentStatus) -> tuple[str, ...]:
    from stigmer_cli.rendering.quantities import format_seconds

    uptime = "-" if component.uptime_seconds is None else format_seconds(component.uptime_seconds)
    pid = "-" if component.pid is None else str(component.pid)
    version = component.version or "-"
    restarts = str(component.restarts)
    return (component.name, component.phase.value, pid, component.address, version, uptime, restarts)
