"""`stigmer doctor`: says what is right and what is wrong with this machine, and what to do about it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from stigmer_cli.commands.completions import complete_runnable
from stigmer_cli.errors import ConfigurationError, EnvironmentNotReady

if TYPE_CHECKING:
    from stigmer_cli.stack.finding import Finding


@click.command(epilog="Example: stigmer doctor --json")
@click.argument("agents", nargs=-1, metavar="[AGENT]...", shell_complete=complete_runnable)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(agents: tuple[str, ...], as_json: bool) -> int:
    """Check that this machine can run agents.

    The MCP servers of each AGENT, which is a manifest, a folder with an agent.yaml or the name of an applied
    agent, are started and asked what they offer. The exit code is 3 where something has to be repaired, else
    0.
    """
    from dataclasses import asdict

    from stigmer_cli.output import print_json
    from stigmer_cli.stack.finding import Outcome

    findings = _find()
    if agents:
        from stigmer_cli.commands.server_checks import check_servers

        findings += [finding for agent in agents for finding in check_servers(agent)]
    broken = any(finding.outcome is Outcome.FAILED for finding in findings)
    if as_json:
        print_json({"ok": not broken, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            _print_finding(finding)
    return EnvironmentNotReady.exit_code if broken else 0


def _find() -> list[Finding]:
    from stigmer_cli.config import load_configuration
    from stigmer_cli.stack.diagnosis import check_python, diagnose
    from stigmer_cli.stack.finding import Finding, Outcome

    try:
        configuration = load_configuration(os.environ)
    except ConfigurationError as error:
        remedy = error.hint or "correct the value"
        return [check_python(), Finding("configuration", Outcome.FAILED, error.message, remedy)]
    read = Finding("configuration", Outcome.PASSED, str(configuration.config_file))
    return [check_python(), read, *diagnose(configuration)]


def _print_finding(finding: Finding) -> None:
    from stigmer_cli.output import print_line
    from stigmer_cli.stack.finding import Outcome

    mark, colour = {
        Outcome.PASSED: ("passed ", "32"),
        Outcome.WARNING: ("warning", "33"),
        Outcome.FAILED: ("failed ", "31"),
    }[finding.outcome]
    print_line(f"  {finding.name}: {finding.detail}", mark=mark, colour=colour)
    if finding.remedy:
        print_line(f"         {finding.remedy}")
