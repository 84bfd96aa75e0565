"""`stigmer undo`: brings a directory back to what it was before the last execution in it.

Only paths that the execution changed are touched, and only where they still are as it left them. What is
interrupted is finished by the same command: a path that is back already counts as done.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stigmer_cli.commands.completions import complete_directories
from stigmer_cli.errors import StigmerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stigmer_cli.api_client import ApiClient
    from stigmer_contract.api import ExecutionResource
    from stigmer_contract.snapshots import Entry

SEARCHED_SESSIONS: Final = 1000
MAX_SHOWN: Final = 20


@click.command(epilog="Example: stigmer undo --workspace .")
@click.option(
    "--workspace",
    metavar="DIR",
    default=".",
    help="The directory; default: this one.",
    shell_complete=complete_directories,
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def undo(workspace: str, yes: bool) -> None:
    """Bring a directory back to what it was before the last execution in it.

    It must have been given with `stigmer run --workspace DIR --snapshots`, or to an agent with `snapshots:
    true`. Files that you changed since are shown, and then nothing is done. Folders that snapshots leave out
    (node_modules, .venv and the like) stay as they are; what the execution did elsewhere stays done.
    """
    from stigmer_cli.commands.bringing_back import bring_back, identity_of, is_as
    from stigmer_cli.commands.connecting import confirm_deletion, open_client
    from stigmer_cli.output import print_note, sanitize
    from stigmer_cli.rendering.quantities import plural
    from stigmer_cli.rendering.snapshots import shown

    root = Path(os.path.realpath(Path(workspace).expanduser()))
    if not root.is_dir():
        raise UsageError(f"could not undo in {workspace!r}: it is no directory")
    with open_client() as client:
        execution = _last_execution(client, root)
        before, after = (_entries(client, execution, at) for at in (0, None))
        changed = [
            path
            for path in sorted({*before, *after})
            if path and identity_of(before.get(path)) != identity_of(after.get(path))
        ]
        left = [path for path in changed if not is_as(root, path, before.get(path))]
        since = [path for path in left if not is_as(root, path, after.get(path))]
        if since:
            for path in since[:MAX_SHOWN]:
                print_note(sanitize(f"changed since: {shown(path)}"))
            count = plural(len(since), "path")
            raise StigmerError(
                f"could not undo {execution.execution_id}: {count} changed since it ended",
                "`stigmer executions restore ID --at 0 --to DIR` writes the files of before elsewhere",
            )
        if not left:
            print_note(f"{execution.execution_id} changed no files here that are not back already")
            return
        for path in left[:MAX_SHOWN]:
            print_note(sanitize(f"{_verb(before, after, path)} {shown(path)}"))
        if len(left) > MAX_SHOWN:
            print_note(f"and {len(left) - MAX_SHOWN} paths more")
        if any(path == ".git/HEAD" or path.startswith(".git/refs/") for path in left):
            print_note("note: commits are involved: branches go back, and the commits stay in the repository")
        confirm_deletion(f"what {execution.execution_id} did to {plural(len(left), 'path')}", yes)
        bring_back(root, before, left, client.fetch_blob)
    print_note(f"{root} is as it was before {execution.execution_id}")


def _last_execution(client: "ApiClient", root: Path) -> "ExecutionResource":
    """The newest execution that worked in the directory."""
    sessions = [
        session
        for session in client.list_sessions(SEARCHED_SESSIONS)
        if session.workspace is not None and os.path.realpath(session.workspace) == str(root)
    ]
    found = [
        each for session in sessions for each in client.list_executions(1, session_id=session.session_id)
    ]
    if not found:
        raise StigmerError(f"no execution has worked in {str(root)!r}")
    last = max(found, key=lambda execution: execution.execution_id)
    if not last.phase.is_terminal:
        raise StigmerError(f"could not undo {last.execution_id}: it is {last.phase}", "cancel it first")
    return last


def _entries(client: "ApiClient", execution: "ExecutionResource", at: int | None) -> "Mapping[str, Entry]":
    from stigmer_contract.errors import SnapshotDamaged
    from stigmer_contract.snapshots import load_chain, provide

    snapshot = client.get_snapshot(execution.execution_id, at)
    if snapshot.listing is None:
        raise StigmerError(
            f"could not undo {execution.execution_id}: its files are not known: {snapshot.none_because}",
            "run with --snapshots, so that the next one can be undone",
        )
    try:
        return provide(load_chain(snapshot.listing.sha256), client.fetch_blob).entries
    except SnapshotDamaged as error:
        raise StigmerError(f"could not undo {execution.execution_id}: {error}") from error


def _verb(before: "Mapping[str, Entry]", after: "Mapping[str, Entry]", path: str) -> str:
    if path not in before:
        return "removes"
    return "brings back" if path not in after else "changes back"
