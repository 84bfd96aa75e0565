"""`stigmer executions download`: the files that an execution left behind."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stigmer_cli.commands.completions import complete_directories, complete_executions
from stigmer_cli.errors import StigmerError, UsageError

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient
    from stigmer_contract.artifacts import Artifact

_STDOUT = "-"


@click.command("download", epilog="Example: stigmer executions download --last report.md")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_executions)
@click.argument("path", metavar="PATH", required=False)
@click.option("--last", is_flag=True, help="Of the newest execution.")
@click.option(
    "--output",
    "-o",
    metavar="DIR",
    help="Write into this directory; - writes one file to standard output.",
    shell_complete=complete_directories,
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: what was written where.")
def download(
    given: str | None, path: str | None, last: bool, output: str | None, force: bool, as_json: bool
) -> None:
    """Write the files that an execution left behind, as `spec.artifacts` of its agent names them.

    With PATH that one, under its name in this directory; without, all of them beneath a directory that is
    called like the execution. Each is checked against the SHA-256 in the execution's log.
    """
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.downloads import write_beneath
    from stigmer_cli.commands.references import find_execution_id
    from stigmer_cli.output import print_json, print_line

    if last and path is None:
        given, path = None, given
    if output == _STDOUT and (path is None or as_json):
        raise UsageError("one file goes to standard output, and nothing beside it", "name its path")
    with open_client() as client:
        execution_id = find_execution_id(client, given, last=last)
        files = _find(client, execution_id, path)
        written = list[dict[str, object]]()
        for file in files:
            content = _fetch(client, execution_id, file)
            if output == _STDOUT:
                _print(content)
                return
            directory = Path(output or (execution_id if path is None else ".")).expanduser()
            name = file.path if path is None else file.path.rpartition("/")[2]
            place = write_beneath(directory, name, content, replaces=force)
            written.append({**file.model_dump(mode="json"), "file": str(place)})
            if not as_json:
                print_line(str(place))
    if as_json:
        print_json(written)


def _find(client: "ApiClient", execution_id: str, path: str | None) -> "list[Artifact]":
    found = client.list_artifacts(execution_id).items
    if not found:
        phase = client.get_execution(execution_id).phase
        reason = "it left no files behind" if phase.is_terminal else "it has not ended"
        raise StigmerError(
            f"could not download files of {execution_id}: {reason}",
            "name the files to keep in `spec.artifacts` of the agent" if phase.is_terminal else None,
        )
    if path is None:
        return found
    named = [file for file in found if file.path == path]
    if not named:
        listed = ", ".join(file.path for file in found[:10]) + (", …" if len(found) > 10 else "")
        raise StigmerError(f"{execution_id} left no file {path!r} behind", f"there are: {listed}")
    return named


def _fetch(client: "ApiClient", execution_id: str, file: "Artifact") -> bytes:
    content = client.fetch_artifact(execution_id, file.path)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise StigmerError(f"{file.path!r} came with another SHA-256 than the log of {execution_id} says")
    return content


def _print(content: bytes) -> None:
    import sys

    from stigmer_cli.output import writing_stdout

    with writing_stdout():
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
