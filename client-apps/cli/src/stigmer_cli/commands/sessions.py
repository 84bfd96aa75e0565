"""`stigmer sessions`: conversations."""

import click

from stigmer_cli.commands.assigning import add_assign_command


@click.group()
def sessions() -> None:
    """List, show and delete conversations."""


@sessions.command("list", epilog="Example: stigmer sessions list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Most sessions.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_sessions(limit: int, as_json: bool) -> None:
    """List sessions, newest first."""
    from datetime import UTC, datetime

    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.output import print_json
    from stigmer_cli.rendering.quantities import format_age
    from stigmer_cli.rendering.tables import print_owned_table

    with open_client() as client:
        found = client.list_sessions(limit)
    if as_json:
        print_json([session.model_dump(mode="json") for session in found])
        return
    now = datetime.now(UTC)
    print_owned_table(
        ["SESSION", "CREATED", "WORKSPACE"],
        [
            [session.session_id, format_age(session.created_at, now), session.workspace or "its own"]
            for session in found
        ],
        [session.owner for session in found],
        empty="no sessions; `stigmer run` makes one",
    )


@sessions.command("get", epilog="Example: stigmer sessions get ses_01k9…")
@click.argument("session_id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def get_session(session_id: str, as_json: bool) -> None:
    """Show a session and its executions."""
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.output import print_json, print_line
    from stigmer_cli.rendering.execution_table import print_executions

    with open_client() as client:
        session = client.get_session(session_id)
        executions = client.list_executions(1000, session_id=session_id)
    executions.reverse()  # as the conversation went
    if as_json:
        listed = [execution.model_dump(mode="json") for execution in executions]
        print_json({**session.model_dump(mode="json"), "executions": listed})
        return
    print_line(f"session    {session.session_id}")
    print_line(f"created    {session.created_at:%Y-%m-%d %H:%M:%S} UTC")
    print_line(f"workspace  {session.workspace or 'its own'}")
    print_line()
    print_executions(executions)


@sessions.command("delete", epilog="Example: stigmer sessions delete ses_01k9… --yes")
@click.argument("session_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_session(session_id: str, yes: bool) -> None:
    """Delete a session with the logs of its executions; the files of its workspace stay."""
    from stigmer_cli.commands.connecting import confirm_deletion, open_client
    from stigmer_cli.output import print_note

    with open_client() as client:
        client.get_session(session_id)
        confirm_deletion(f"the session {session_id} with its executions", yes)
        client.delete_session(session_id)
    print_note(f"deleted the session {session_id}")


add_assign_command(sessions, "sessions", "ses_01k9… --to alice")
