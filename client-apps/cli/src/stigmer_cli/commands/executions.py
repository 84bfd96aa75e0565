"""`stigmer executions`: what agents did, and what they are doing."""

import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click

from stigmer_cli.commands.artifacts import download
from stigmer_cli.commands.completions import complete_agents, complete_executions, complete_sessions
from stigmer_cli.commands.deciding import answer, approve, deny
from stigmer_cli.commands.diffing import diff
from stigmer_cli.commands.forking import fork
from stigmer_cli.commands.grants import grants, revoke
from stigmer_cli.commands.rewinding import rewind
from stigmer_cli.commands.snapshots import list_files, restore
from stigmer_contract.phases import ExecutionPhase

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient


@click.group()
def executions() -> None:
    """List, follow and steer executions."""


@executions.command("list", epilog="Example: stigmer executions list --phase in_progress")
@click.option(
    "--session",
    "session_id",
    metavar="ID",
    help="Of this session only.",
    shell_complete=complete_sessions,
)
@click.option("--agent", metavar="NAME", help="Of this agent only.", shell_complete=complete_agents)
@click.option(
    "--phase", type=click.Choice([phase.value for phase in ExecutionPhase]), help="In this phase only."
)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Most executions."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_executions(
    session_id: str | None, agent: str | None, phase: str | None, limit: int, as_json: bool
) -> None:
    """List executions, newest first.

    An id is shown by its last characters, which every command takes for it.
    """
    from stigmer_cli.api_client.http_transport import HttpTransport
    from stigmer_cli.api_client.listed_executions import fetch_listed
    from stigmer_cli.commands.connecting import find_connection, open_client
    from stigmer_cli.output import print_json
    from stigmer_cli.rendering.execution_table import print_executions

    if session_id is not None:
        from stigmer_cli.commands.references import find_session_id

        with open_client() as client:
            session_id = find_session_id(client, session_id, last=False)
    if as_json:
        with open_client() as client:
            found = client.list_executions(limit, session_id=session_id, agent=agent, phase=phase)
        print_json([execution.model_dump(mode="json") for execution in found])
        return
    with closing(HttpTransport(find_connection())) as transport:
        filters = {"session_id": session_id, "agent": agent, "phase": phase}
        print_executions(fetch_listed(transport, limit, filters))


@executions.command("get", epilog="Example: stigmer executions get exe_01k9…")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_executions)
@click.option("--last", is_flag=True, help="The newest one.")
@click.option("--full", is_flag=True, help="Show what each tool call gave, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every event.")
def get_execution(given: str | None, last: bool, full: bool, as_json: bool) -> None:
    """Show an execution and its log.

    ID may be the last characters of an id, as lists show them, or any beginning that fits one only.
    """
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_execution_id
    from stigmer_cli.output import print_json, print_line
    from stigmer_cli.rendering.execution_log import format_execution

    with open_client() as client:
        execution_id = find_execution_id(client, given, last=last)
        execution = client.get_execution(execution_id)
        events = list(client.read_events(execution_id))
        if as_json:
            listed = [event.model_dump(mode="json") for event in events]
            print_json({**execution.model_dump(mode="json"), "events": listed})
        else:
            print_line(format_execution(execution, events, client.load_payload, full=full))


@executions.command("follow", epilog="Example: stigmer executions follow exe_01k9…")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_executions)
@click.option("--last", is_flag=True, help="The newest one.")
@click.option("--json", "as_json", is_flag=True, help="Print every event as one JSON object a line.")
@click.option("--plain", is_flag=True, help="Show the answer as the model wrote it, not rendered.")
@click.option("--after", type=click.IntRange(0), default=0, help="Only events after this sequence.")
def follow(given: str | None, last: bool, as_json: bool, plain: bool, after: int) -> None:
    """Watch an execution from its beginning to its end.

    Ctrl-C ends the watch, not the execution. The exit code is that of `stigmer run`.
    """
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_execution_id

    with open_client() as client:
        execution_id = find_execution_id(client, given, last=last)
        _watch(client, execution_id, after=after, as_json=as_json, plain=plain)


@executions.command("cancel", epilog="Example: stigmer executions cancel exe_01k9… --reason 'wrong file'")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_executions)
@click.option("--last", is_flag=True, help="The newest one.")
@click.option("--reason", help="Why, for whoever reads the log.")
def cancel(given: str | None, last: bool, reason: str | None) -> None:
    """Ask an execution to stop."""
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_execution_id
    from stigmer_cli.output import print_note

    with open_client() as client:
        execution_id = find_execution_id(client, given, last=last)
        client.cancel_execution(execution_id, reason)
    print_note(f"asked {execution_id} to stop; `stigmer executions follow {execution_id}` shows when it has")


@executions.command("pause", epilog="Example: stigmer executions pause exe_01k9…")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_executions)
@click.option("--last", is_flag=True, help="The newest one.")
@click.option("--reason", help="Why, for whoever reads the log.")
def pause(given: str | None, last: bool, reason: str | None) -> None:
    """Let an execution rest.

    What it has in hand ends first. Then it holds no runner, and waits until it is resumed; what is answered
    and said meanwhile it finds then.
    """
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_execution_id
    from stigmer_cli.output import print_note

    with open_client() as client:
        execution_id = find_execution_id(client, given, last=last)
        client.pause_execution(execution_id, reason)
    print_note(f"paused; `stigmer executions resume {execution_id}` lets it go on")


@executions.command("resume", epilog="Example: stigmer executions resume exe_01k9…")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_executions)
@click.option("--last", is_flag=True, help="The newest one.")
def resume(given: str | None, last: bool) -> None:
    """Let a paused execution go on."""
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_execution_id
    from stigmer_cli.output import print_note

    with open_client() as client:
        execution_id = find_execution_id(client, given, last=last)
        client.resume_execution(execution_id)
    print_note(f"{execution_id} goes on; `stigmer executions follow {execution_id}` shows how")


@executions.command("retry", epilog="Example: stigmer executions retry exe_01k9… --turns 200")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_executions)
@click.option("--last", is_flag=True, help="The newest one.")
@click.option("--turns", type=click.IntRange(1), help="From now on limits.turns: model answers in all.")
@click.option("--tokens", type=click.IntRange(1), help="From now on limits.tokens: tokens in all.")
@click.option("--cost", metavar="USD", help="From now on limits.costUsd: US dollars in all.")
@click.option("--duration", metavar="TIME", help="From now on limits.duration, such as 2h.")
@click.option(
    "--model-unavailable", metavar="TIME", help="From now on limits.modelUnavailable, or `forever`."
)
@click.option("--follow", "follows", is_flag=True, help="Watch it from here to its end.")
def retry(
    given: str | None,
    last: bool,
    turns: int | None,
    tokens: int | None,
    cost: str | None,
    duration: str | None,
    model_unavailable: str | None,
    follows: bool,
) -> None:
    """Let an execution that failed go on from its log.

    What its log holds is neither paid for nor done again. It must be the newest of its session. A limit that
    ended it ends it again, unless it is raised here. One that waits for a model asks it at once.
    """
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_execution_id
    from stigmer_cli.output import print_note

    wanted = {
        "turns": turns,
        "tokens": tokens,
        "costUsd": cost,
        "duration": duration,
        "modelUnavailable": model_unavailable,
    }
    limits: dict[str, object] = {name: value for name, value in wanted.items() if value is not None}
    _check_limits(limits)
    with open_client() as client:
        execution_id = find_execution_id(client, given, last=last)
        before = client.get_execution(execution_id).last_sequence if follows else 0
        client.retry_execution(execution_id, limits)
        if follows:
            _watch(client, execution_id, after=before, as_json=False, plain=False)
            return
    print_note(f"{execution_id} goes on; `stigmer executions follow {execution_id}` shows how")


@executions.command("send", epilog="Example: stigmer executions send 4k2x9q 'Use the other file.'")
@click.argument("given", metavar="ID", shell_complete=complete_executions)
@click.argument("message")
def send(given: str, message: str) -> None:
    """Say something to an execution, which reads it before its next turn.

    What comes before the end is answered by one more turn. What comes later starts the next execution of the
    session, and you are told which. - as MESSAGE reads standard input.
    """
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.prompts import read_prompt
    from stigmer_cli.commands.references import find_execution_id
    from stigmer_cli.output import print_note

    text = read_prompt(message, None)
    with open_client() as client:
        execution_id = find_execution_id(client, given, last=False)
        sent = client.send_message(execution_id, text)
    if sent.starts_execution:
        print_note(f"{execution_id} has ended; the message starts the session's next: {sent.execution_id}")
        print_note(f"`stigmer executions follow {sent.execution_id}` shows how it goes")
    elif sent.execution_id != execution_id:
        print_note(f"{execution_id} has ended; the session's {sent.execution_id} got the message")
    else:
        print_note(f"the message is number {sent.sequence} in the log of {execution_id}")


def _watch(client: "ApiClient", execution_id: str, *, after: int, as_json: bool, plain: bool) -> None:
    from stigmer_cli.commands.following import Following
    from stigmer_cli.rendering.execution_view import ExecutionView
    from stigmer_cli.rendering.json_view import JsonView
    from stigmer_cli.rendering.screen import Screen

    if as_json:
        view = JsonView(sys.stdout, execution_id)
    else:
        view = ExecutionView(Screen(sys.stdout, sys.stderr, plain=plain), client.load_payload)
    Following(client, execution_id, view, cancels=False, asks=not as_json).follow(after)


def _check_limits(limits: "dict[str, object]") -> None:
    """Say what is wrong with a limit in the words of the command line."""
    from pydantic import ValidationError

    from stigmer_contract.manifest import Limits

    try:
        Limits.model_validate(limits)
    except ValidationError as error:
        [first, *_] = error.errors()
        option = {"costUsd": "cost", "modelUnavailable": "model-unavailable"}.get(
            str(first["loc"][0]), str(first["loc"][0])
        )
        reason = first["msg"].removeprefix("Value error, ")
        raise click.BadParameter(reason, param_hint=f"--{option}") from error


for command in (answer, approve, deny, diff, download, fork, grants, list_files, restore, revoke, rewind):
    executions.add_command(command)
