"""`stigmer sessions`: conversations."""

import click

from stigmer_cli.commands.assigning import add_assign_command
from stigmer_cli.commands.completions import complete_sessions
from stigmer_cli.commands.session_transfer import export_session, import_session


@click.group()
def sessions() -> None:
    """List, show and delete conversations."""


@sessions.command("list", epilog="Example: stigmer sessions list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Most sessions.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_sessions(limit: int, as_json: bool) -> None:
    """List sessions, newest first.

    An id is shown by its last characters, which every command takes for it; a session's prompt is its first.
    """
    from datetime import UTC, datetime

    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import short_id
    from stigmer_cli.output import print_json
    from stigmer_cli.rendering.quantities import format_age, format_cost
    from stigmer_cli.rendering.tables import print_owned_table

    with open_client() as client:
        found = client.list_sessions(limit)
    if as_json:
        print_json([session.model_dump(mode="json") for session in found])
        return
    now = datetime.now(UTC)
    print_owned_table(
        ["SESSION", "CREATED", "AGENT", "EXECUTIONS", "COST", "WORKSPACE", "PROMPT"],
        [
            [
                short_id(session.session_id),
                format_age(session.created_at, now),
                session.agent_name or "",
                str(session.execution_count),
                format_cost(session.cost_usd) if session.cost_usd is not None else "",
                session.workspace or "its own",
                session.input_head or "",
            ]
            for session in found
        ],
        [session.owner for session in found],
        empty="no sessions; `stigmer run` makes one",
        long="PROMPT",
        optional=["EXECUTIONS", "WORKSPACE", "COST"],
    )


@sessions.command("get", epilog="Example: stigmer sessions get ses_01k9…")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_sessions)
@click.option("--last", is_flag=True, help="The newest one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def get_session(given: str | None, last: bool, as_json: bool) -> None:
    """Show a session and its executions.

    ID may be the last characters of an id, as lists show them, or any beginning that fits one only.
    """
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_session_id
    from stigmer_cli.commands.session_files import session_directory
    from stigmer_cli.output import print_json, print_line
    from stigmer_cli.rendering.execution_table import print_executions

    with open_client() as client:
        session_id = find_session_id(client, given, last=last)
        session = client.get_session(session_id)
        executions = client.list_executions(1000, session_id=session_id)
    executions.reverse()  # as the conversation went
    if as_json:
        listed = [execution.model_dump(mode="json") for execution in executions]
        print_json({**session.model_dump(mode="json"), "executions": listed})
        return
    print_line(f"session    {session.session_id}")
    print_line(f"created    {session.created_at:%Y-%m-%d %H:%M:%S} UTC")
    directory = session_directory(session)
    print_line(f"workspace  {session.workspace or 'its own'}")
    if session.workspace is None and directory is not None:
        print_line(f"files      {directory}")
    print_line()
    print_executions(executions)


@sessions.command("compact", epilog="Example: stigmer sessions compact --last")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_sessions)
@click.option("--last", is_flag=True, help="The newest one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compact_session(given: str | None, last: bool, as_json: bool) -> None:
    """Let a session's next execution begin with a compacted conversation.

    What people said, refused calls and changed files stay; the rest is replaced by a summary, which the
    agent's model writes when that execution begins. The log keeps everything.
    """
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_session_id
    from stigmer_cli.output import print_json, print_note

    with open_client() as client:
        session = client.compact_session(find_session_id(client, given, last=last))
    if as_json:
        print_json(session.model_dump(mode="json"))
        return
    print_note(f"the next execution of {session.session_id} begins with a compacted conversation")


@sessions.command("delete", epilog="Example: stigmer sessions delete ses_01k9… --yes")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_sessions)
@click.option("--last", is_flag=True, help="The newest one.")
@click.option("--keep-files", is_flag=True, help="Leave the files of the session's own directory.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_session(given: str | None, last: bool, keep_files: bool, yes: bool) -> None:
    """Delete a session with the logs of its executions, and the files of its own directory.

    A directory that was named with --workspace is never touched.
    """
    from stigmer_cli.commands.connecting import confirm_deletion, open_client
    from stigmer_cli.commands.references import find_session_id
    from stigmer_cli.commands.session_files import remove_directory, session_directory
    from stigmer_cli.output import print_note

    with open_client() as client:
        session_id = find_session_id(client, given, last=last)
        session = client.get_session(session_id)
        directory = None if session.workspace or keep_files else session_directory(session)
        files = "" if directory is None else f" and the files in {directory}"
        confirm_deletion(f"the session {session_id} with its executions{files}", yes)
        client.delete_session(session_id)
    if directory is not None:
        remove_directory(directory)
    print_note(f"deleted the session {session_id}{files}")


@sessions.command("path", epilog="Example: stigmer sessions path --last")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_sessions)
@click.option("--last", is_flag=True, help="The newest one.")
def session_path(given: str | None, last: bool) -> None:
    """Print the directory that a session works in."""
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_session_id
    from stigmer_cli.commands.session_files import session_directory
    from stigmer_cli.errors import StigmerError
    from stigmer_cli.output import print_line

    with open_client() as client:
        session = client.get_session(find_session_id(client, given, last=last))
    directory = session_directory(session)
    if directory is None:
        raise StigmerError(
            f"could not find the directory of session {session.session_id}: it is on the machine of the "
            "runner, or was removed"
        )
    print_line(str(directory))


for command in (export_session, import_session):
    sessions.add_command(command)
add_assign_command(sessions, "sessions", "ses_01k9… --to alice")
