"""`stigmer executions files` and `restore`: the files of an execution as they were at a step."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stigmer_cli.commands.completions import complete_directories, complete_executions
from stigmer_cli.errors import StigmerError, UsageError

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient
    from stigmer_contract.snapshots import Chain


@click.command("files", epilog="Example: stigmer executions files 4k2x9q --at 17")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_executions)
@click.option("--last", is_flag=True, help="The newest one.")
@click.option("--at", type=click.IntRange(0), metavar="STEP", help="As they were then; default: at the last.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_files(given: str | None, last: bool, at: int | None, as_json: bool) -> None:
    """List an execution's files as they were at a step: after it, before the next could change any."""
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_execution_id
    from stigmer_cli.output import print_json, print_note
    from stigmer_cli.rendering.snapshots import entry_json, print_entries

    with open_client() as client:
        chain = _load(client, find_execution_id(client, given, last=last), at)
    if as_json:
        print_json([entry_json(path, entry) for path, entry in sorted(chain.entries.items()) if path])
    else:
        print_entries(chain.entries)
        if chain.left_out:
            print_note(
                f"note: left out of the snapshot: {len(chain.left_out)} (--json of the event names them)"
            )


@click.command("restore", epilog="Example: stigmer executions restore 4k2x9q --at 17 --to ./then")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_executions)
@click.option("--last", is_flag=True, help="The newest one.")
@click.option("--at", type=click.IntRange(0), metavar="STEP", help="As they were then; default: at the last.")
@click.option(
    "--to",
    "target",
    metavar="DIR",
    required=True,
    help="A directory that is not there yet.",
    shell_complete=complete_directories,
)
def restore(given: str | None, last: bool, at: int | None, target: str) -> None:
    """Write an execution's files, as they were at a step, into a new directory.

    Contents, modes, links and times are as they were. It appears as a whole, or not at all.
    """
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_execution_id
    from stigmer_cli.output import print_note
    from stigmer_contract.errors import SnapshotDamaged
    from stigmer_contract.snapshots import provide, restore_tree

    place = Path(target).expanduser().absolute()
    if os.path.lexists(place):
        raise UsageError(f"could not restore to {target!r}: it is there already", "name a new directory")
    if not place.parent.is_dir():
        raise UsageError(f"could not restore to {target!r}: there is no directory {str(place.parent)!r}")
    with open_client() as client:
        chain = _load(client, find_execution_id(client, given, last=last), at)
        try:
            aside = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
            try:
                root = os.open(aside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    provide(restore_tree(chain.entries, root), client.fetch_blob)
                finally:
                    os.close(root)
                aside.rename(place)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        except (OSError, SnapshotDamaged) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise StigmerError(f"could not restore to {target!r}: {reason}") from error
    print_note(f"restored {len(chain.entries) - 1} files, directories and links to {place}")


def _load(client: "ApiClient", execution_id: str, at: int | None) -> "Chain":
    from stigmer_contract.errors import SnapshotDamaged
    from stigmer_contract.snapshots import load_chain, provide

    snapshot = client.get_snapshot(execution_id, at)
    if snapshot.listing is None:
        raise StigmerError(
            f"the files of {execution_id} at step {snapshot.step} are not known: {snapshot.none_because}"
        )
    try:
        return provide(load_chain(snapshot.listing.sha256), client.fetch_blob)
    except SnapshotDamaged as error:
        raise StigmerError(f"the snapshot of step {snapshot.step} cannot be read: {error}") from error
