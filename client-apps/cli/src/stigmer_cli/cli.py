"""Assembles the commands, each imported only when it is used: `stigmer --help` must come at once."""

import importlib
import os
from dataclasses import dataclass

import click

DEBUG_VARIABLE = "STIGMER_DEBUG"
HELP_OPTIONS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@dataclass(frozen=True)
class CommandEntry:
    """Where a command is defined, and what the list of commands says of it."""

    module: str
    attribute: str
    summary: str
    """The first line of the command's own help; a test holds them together."""


SECTIONS: dict[str, dict[str, CommandEntry]] = {
    "Agents": {
        "run": CommandEntry("run", "run", "Run an agent on a task and watch it work."),
        "init": CommandEntry("init", "init", "Write a first manifest to start from."),
        "validate": CommandEntry("validate", "validate", "Check manifests without applying them."),
        "test": CommandEntry("testing", "test", "Run tests of agents, or make one of an execution."),
        "apply": CommandEntry("apply", "apply", "Create or update the agents of manifests."),
        "agents": CommandEntry("agents", "agents", "List, show and delete applied agents."),
        "tools": CommandEntry("tools", "tools", "Show the tools that an agent's model is offered."),
        "mcp": CommandEntry("mcp", "mcp", "Look at the MCP servers of agents, and call their tools."),
        "import": CommandEntry("importing", "import_agents", "Make manifests of agents of other programs."),
        "skills": CommandEntry("skills", "skills", "List, check and pack skills."),
        "secrets": CommandEntry("secrets", "secrets", "Set, list and delete the secrets of agents."),
    },
    "Executions": {
        "chat": CommandEntry("chat", "chat", "Talk with an agent."),
        "inbox": CommandEntry("deciding", "inbox", "Show what waits for you: approvals and questions."),
        "executions": CommandEntry("executions", "executions", "List, follow and steer executions."),
        "undo": CommandEntry(
            "undo", "undo", "Bring a directory back to what it was before the last execution in it."
        ),
        "sessions": CommandEntry("sessions", "sessions", "List, show and delete conversations."),
        "console": CommandEntry("console", "console", "Open the console in a browser, signed in."),
    },
    "Local stack": {
        "server": CommandEntry("server", "server", "Start, stop and inspect the local stack."),
        "runner": CommandEntry("runner", "runner", "Pull and inspect the runner's container."),
        "doctor": CommandEntry("doctor", "doctor", "Check that this machine can run agents."),
        "tokens": CommandEntry("tokens", "tokens", "Make, list and revoke access tokens."),
        "webhooks": CommandEntry(
            "webhooks", "webhooks", "Tell a URL when an execution asks something of a person."
        ),
        "config": CommandEntry("config", "config_group", "Show and set configuration."),
    },
    "Other": {
        "version": CommandEntry("version", "version", "Show the version."),
        "completion": CommandEntry("completion", "completion", "Print a completion script for a shell."),
    },
}


class LazyGroup(click.Group):
    """A group whose commands are looked up in `SECTIONS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name, in the order of the help."""
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command."""
        for section in SECTIONS.values():
            if entry := section.get(cmd_name):
                module = importlib.import_module(f"stigmer_cli.commands.{entry.module}")
                command: click.Command = getattr(module, entry.attribute)
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table alone."""
        width = max(len(name) for name in self.list_commands(ctx))
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry.summary) for name, entry in section.items()])


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from stigmer_cli.output import print_line
        from stigmer_cli.program_version import program_version

        print_line(f"stigmer {program_version()}")
        context.exit()


@click.group(
    cls=LazyGroup,
    context_settings=HELP_OPTIONS,
    epilog="Example: stigmer init hello, then stigmer run ./hello 'Who are you?'",
)
@click.option("--debug", is_flag=True, help="Show the traceback of a defect.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
def root(debug: bool) -> None:
    """Stigmer runs AI agents that finish."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"
