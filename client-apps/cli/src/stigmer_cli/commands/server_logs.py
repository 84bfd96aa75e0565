"""`stigmer server logs`: what the parts of the stack say, merged in the order of time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from stigmer_cli.commands.start_options import local_configuration
from stigmer_cli.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from stigmer_cli.stack.log_files import LogLine

_FOLLOW_INTERVAL_SECONDS = 0.1
_COLOURS = {"temporal": "35", "server": "36", "runner": "32", "supervisor": "33"}
_NAME_WIDTH = max(len(name) for name in _COLOURS)


@click.command(epilog="Example: stigmer server logs --runner --tail 50 -f")
@click.option("--all", "every", is_flag=True, help="All parts (default).")
@click.option("--runner", is_flag=True, help="The runner.")
@click.option("--server", is_flag=True, help="The server.")
@click.option("--temporal", is_flag=True, help="Temporal.")
@click.option("--supervisor", is_flag=True, help="What starts and watches the others.")
@click.option("-f", "--follow", is_flag=True, help="Go on showing new lines until Ctrl-C.")
@click.option("--since", metavar="TIME", help="From then on: 90s, 10m, 2h, 1d, or an ISO 8601 time.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="The last N lines only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
def logs(
    every: bool, follow: bool, since: str | None, tail: int | None, as_json: bool, **parts: bool
) -> None:
    """Show what the parts say."""
    from collections import deque

    from stigmer_cli.stack.log_files import LogReader

    wanted = [name for name in _COLOURS if every or parts[name] or not any(parts.values())]
    reader = LogReader(local_configuration("show logs of").log_directory, wanted)
    lines = reader.kept_lines(None if since is None else _parse_since(since))
    for line in lines if tail is None else deque(lines, maxlen=tail):
        _show(line, as_json)
    while follow:
        import time

        sys.stdout.flush()
        time.sleep(_FOLLOW_INTERVAL_SECONDS)
        for line in reader.new_lines():
            _show(line, as_json)


def _parse_since(text: str) -> datetime:
    from datetime import UTC, datetime

    from stigmer_contract.manifest_parts import parse_duration

    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.astimezone()
    except ValueError:
        pass
    try:
        return datetime.now(UTC) - parse_duration(text)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"could not read `--since {text}`: it is neither a duration nor an ISO 8601 time",
            "write a duration such as 10m, or a time such as 2026-01-31T09:30",
        ) from error


def _show(line: LogLine, as_json: bool) -> None:
    from stigmer_cli.output import format_json, has_colour, sanitize

    if as_json:
        text = format_json({"time": line.time, "component": line.component, "text": line.text})
    elif has_colour(sys.stdout):
        colour = _COLOURS[line.component]
        text = f"{line.time} \x1b[{colour}m{line.component:<{_NAME_WIDTH}}\x1b[0m {sanitize(line.text)}"
    else:
        text = f"{line.time} {line.component:<{_NAME_WIDTH}} {sanitize(line.text)}"
    sys.stdout.write(text + "\n")
