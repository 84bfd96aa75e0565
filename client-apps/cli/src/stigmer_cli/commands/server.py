"""`stigmer server`: starts, stops and shows the local stack, for which `stigmer_cli.stack` does the work."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from stigmer_cli.commands.image_options import Verify, verify_option
from stigmer_cli.commands.server_install import install, uninstall
from stigmer_cli.commands.server_logs import logs
from stigmer_cli.commands.start_options import grace_seconds, local_configuration, runner_wish, start_options
from stigmer_cli.errors import EnvironmentNotReady

if TYPE_CHECKING:
    from stigmer_cli.config import Configuration
    from stigmer_cli.runner.inspection import ContainerStatus
    from stigmer_cli.stack import RunnerWish
    from stigmer_cli.stack.status import ComponentStatus, StackStatus


@click.group(epilog="Example: stigmer server start")
def server() -> None:
    """Start, stop and inspect the local stack."""


server.add_command(logs)
server.add_command(install)
server.add_command(uninstall)


@server.command(epilog="Example: stigmer server start --no-wait")
@start_options
def start(
    native: bool,
    engine: str | None,
    use_local_image: str | None,
    image_archive: str | None,
    verify: Verify | None,
    quiet: bool,
    wait: bool,
    timeout: float | None,
) -> None:
    """Start the stack, its runner in a container where Docker or Podman is there.

    Where the stack runs, only a runner's container that is to be another one now is replaced.
    """
    from stigmer_cli import stack
    from stigmer_cli.output import notes

    configuration = local_configuration("start")
    wish = runner_wish(native, engine, use_local_image, image_archive, verify, quiet)
    seconds = timeout or stack.START_TIMEOUT_SECONDS
    started = stack.start(
        configuration,
        report=notes(is_quiet=quiet),
        wait=wait,
        wait_seconds=seconds,
        runner=wish,
        engine_seconds=timeout or stack.ENGINE_TIMEOUT_SECONDS,
    )
    _tell_started(configuration, wish, is_started=started, is_ready=wait)


@server.command(epilog="Example: stigmer server restart")
@start_options
@click.option(
    "--grace",
    metavar="DURATION",
    help="How long steps in hand may take, such as 90s or 1h (default: until they end, at most 10m).",
)
@click.option("--now", is_flag=True, help="Drop steps in hand that do not end within some seconds.")
def restart(
    native: bool,
    engine: str | None,
    use_local_image: str | None,
    image_archive: str | None,
    verify: Verify | None,
    quiet: bool,
    wait: bool,
    timeout: float | None,
    grace: str | None,
    now: bool,
) -> None:
    """Stop the stack, then start it with the settings of now.

    The runner finishes the steps that it has in hand: as a plain process beside the new one, in a container
    before it is replaced. Flags that the last start was given hold on, where no other is given.
    """
    from stigmer_cli import stack
    from stigmer_cli.output import notes

    configuration = local_configuration("restart")
    wish = runner_wish(native, engine, use_local_image, image_archive, verify, quiet)
    started = stack.restart(
        configuration,
        report=notes(is_quiet=quiet),
        wait=wait,
        wait_seconds=timeout or stack.START_TIMEOUT_SECONDS,
        runner=wish,
        grace_seconds=grace_seconds(grace, is_now=now),
    )
    _tell_started(configuration, wish, is_started=started, is_ready=wait)


@server.command(epilog="Example: stigmer server update")
@verify_option
@click.option("--quiet", is_flag=True, help="Show no progress.")
def update(verify: Verify | None, quiet: bool) -> None:
    """Pull the runner's image, and replace a running container with a drain."""
    from stigmer_cli import stack
    from stigmer_cli.output import notes

    configuration = local_configuration("update")
    if verify is not None:
        configuration = replace(configuration, runner_verify=verify)
    report = notes(is_quiet=quiet)
    wish = stack.RunnerWish(verify=verify, must_pull=True, is_quiet=quiet)
    if stack.running_version(configuration) is None:
        from stigmer_cli.runner.pulling import pull_runner_image

        chosen = pull_runner_image(configuration, None, report, is_quiet=quiet)
        report(f"{chosen.reference} is here; the next `stigmer server start` uses it")
        return
    from stigmer_cli.stack.replacement import refresh_runner

    replaced = refresh_runner(configuration, wish, report)
    report("the runner is up to date" if not replaced else "the runner is ready again")


@server.command(epilog="Example: stigmer server stop")
def stop() -> None:
    """End all of the stack within 10 seconds.

    Executions that are not done go on at the next start.
    """
    from stigmer_cli import stack
    from stigmer_cli.output import print_note

    was_running = stack.stop(local_configuration("stop"))
    print_note("the stack has stopped" if was_running else "the stack is not running")


@server.command(epilog="Example: stigmer server status --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> int:
    """Show how each part stands now.

    The exit code is 0 where all parts are ready, else 3.
    """
    from dataclasses import asdict

    from stigmer_cli.config import load_configuration
    from stigmer_cli.output import print_json, print_line, print_note
    from stigmer_cli.stack import UNCONTAINED_NOTE
    from stigmer_cli.stack.status import stack_status

    current = stack_status(load_configuration(os.environ))
    if as_json:
        print_json(asdict(current))
    else:
        print_line(_describe(current))
        if current.container is not None:
            print_line(describe_container(current.container, current))
        elif current.running and not current.is_elsewhere:
            print_note(f"note: {UNCONTAINED_NOTE}")
        if not current.running:
            print_note("the stack is not running; run `stigmer server start`")
    return 0 if current.ready else EnvironmentNotReady.exit_code


def _tell_started(
    configuration: Configuration, wish: RunnerWish, *, is_started: bool, is_ready: bool
) -> None:
    from stigmer_cli.output import notes

    if is_started and is_ready:
        said = "the stack is ready; run `stigmer run AGENT PROMPT`, or end it with `stigmer server stop`"
    elif is_started:
        said = "the stack is starting; see `stigmer server status`"
    elif _refresh(configuration, wish):
        said = "the runner is ready again"
    else:
        if is_ready:
            _raise_if_unready(configuration)
        said = "the stack is already running; see `stigmer server status`"
    notes(is_quiet=wish.is_quiet)(said)


def _raise_if_unready(configuration: Configuration) -> None:
    """Of a stack that ran already: each part was ready once, which says nothing of now."""
    from stigmer_cli.errors import ComponentNotReady
    from stigmer_cli.stack.state import ComponentPhase
    from stigmer_cli.stack.status import stack_status

    for component in stack_status(configuration).components:
        if not component.ready and component.phase is not ComponentPhase.EXTERNAL:
            raise ComponentNotReady(component.name, component.reason or component.phase.value)


def _refresh(configuration: Configuration, wish: RunnerWish) -> bool:
    from stigmer_cli.output import notes
    from stigmer_cli.runner.choice import has_plan

    if not has_plan(configuration) and not wish.wants_container:
        return False
    from stigmer_cli.stack.replacement import refresh_runner

    return refresh_runner(configuration, wish, notes(is_quiet=wish.is_quiet))


def _describe(current: StackStatus) -> str:
    rows = [("PART", "PHASE", "PID", "ADDRESS", "VERSION", "UPTIME", "RESTARTS")]
    rows += [_row(component) for component in current.components]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines: list[str] = []
    for row, component in zip(rows, [None, *current.components], strict=True):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if component is not None and component.reason:
            lines.append(f"  {component.reason}")
        if component is not None:
            lines += [f"  warning: {warning}" for warning in component.warnings]
        if component is not None and component.isolation:
            bubblewrap = "" if component.bubblewrap is None else f", {component.bubblewrap}"
            findings = "".join(f"; {finding}" for finding in component.isolation_findings)
            lines.append(f"  isolation of commands: {component.isolation}{bubblewrap}{findings}")
    return "\n".join(lines)


def describe_container(container: ContainerStatus, current: StackStatus) -> str:
    """The runner's container in a few lines."""
    lines = [f"runner's container: {container.name or 'none'} in {container.engine}"]
    built = "built or loaded here" if container.digest is None else container.digest
    lines.append(f"  image   {container.image} ({built}), version {container.image_version}")
    if container.memory_bytes is not None:
        limit = container.memory_limit_bytes / 1024**2
        lines.append(f"  memory  {container.memory_bytes / 1024**2:.0f} of {limit:.0f} MiB")
    uptime = next((one.uptime_seconds for one in current.components if one.name == "runner"), None)
    if container.cpu_seconds is not None and uptime:
        share = 100 * container.cpu_seconds / uptime
        lines.append(f"  cpu     {share:.0f} % of one since its start")
    for placement in current.placements:
        phase = "idle" if placement.is_idle and placement.reason is None else placement.phase.value
        reason = f": {placement.reason}" if placement.reason else ""
        lines.append(f"  for {placement.directory} another one, {phase}{reason}")
    if container.problem:
        lines.append(f"  {container.problem}")
    return "\n".join(lines)


def _row(component: ComponentStatus) -> tuple[str, ...]:
    from stigmer_cli.rendering.quantities import format_seconds

    uptime = "-" if component.uptime_seconds is None else format_seconds(component.uptime_seconds)
    pid = "-" if component.pid is None else str(component.pid)
    version = component.version or "-"
    restarts = str(component.restarts)
    return (component.name, component.phase.value, pid, component.address, version, uptime, restarts)
