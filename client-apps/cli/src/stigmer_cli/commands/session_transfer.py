"""`stigmer sessions export` and `import`: a session as one file.

A file to import comes from anybody: nothing of it is written to this machine, each member is read within
bounds, and the server goes through the logs by its own rules.
"""

import hashlib
import os
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import click

from stigmer_cli.commands.completions import complete_files, complete_sessions
from stigmer_cli.errors import StigmerError, UsageError

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_MAX_BLOB_BYTES: Final = 64 * 1024 * 1024


@click.command("export", epilog="Example: stigmer sessions export --last -o talk.stigmer")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_sessions)
@click.option("--last", is_flag=True, help="The newest one.")
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    help="Write this file; by default one that is called like the session.",
    shell_complete=complete_files,
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def export_session(given: str | None, last: bool, output: str | None, force: bool) -> None:
    """Write a session with its logs and large values into one file.

    Its executions must have ended. The files of its workspace are not in it. It holds what was said, and what
    tools gave: give it to nobody who may not see that.
    """
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_session_id
    from stigmer_cli.output import print_line, print_note

    with open_client() as client:
        session_id = find_session_id(client, given, last=last)
        path = Path(output or f"{session_id}.stigmer").expanduser()
        if path.exists() and not force:
            raise StigmerError(
                f"could not write {str(path)!r}: it is there already", "pass --force to replace it"
            )
        document, blobs = _read_session(client, session_id)
        _write_archive(client, path, document, blobs)
    print_line(str(path))
    print_note("import it with `stigmer sessions import FILE`")


@click.command("import", epilog="Example: stigmer sessions import talk.stigmer")
@click.argument("file", shell_complete=complete_files)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_session(file: str, as_json: bool) -> None:
    """Make a session of an exported one: a new one of yours, with new ids and an empty workspace.

    Who goes on with it by `executions send` or `retry` runs the agent that stands in the file: look at it
    first where it comes from somebody else.
    """
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.output import print_json, print_line, print_note
    from stigmer_contract.exported_sessions import MAX_DOCUMENT_BYTES

    path = Path(file).expanduser()
    with _open_archive(path) as archive, open_client() as client:
        members = _members(archive, path)
        document = _read_member(archive, members.pop(""), MAX_DOCUMENT_BYTES, path)
        for sha256, member in members.items():
            content = _read_member(archive, member, _MAX_BLOB_BYTES, path)
            if hashlib.sha256(content).hexdigest() != sha256:
                raise StigmerError(f"could not import {str(path)!r}: {member.filename!r} is not what it says")
            client.upload_blob(content)
        session = client.import_session(client.upload_blob(document))
    if as_json:
        print_json(session.model_dump(mode="json"))
        return
    print_line(session.session_id)
    print_note(f"`stigmer sessions get {session.session_id}` shows it")


# --- export -----------------------------------------------------------------------------------


def _read_session(client: "ApiClient", session_id: str) -> tuple[bytes, list[str]]:
    """The document, and the blobs that it names."""
    from datetime import UTC, datetime

    from pydantic_core import to_json

    from stigmer_contract.events import SnapshotSkipped, SnapshotTaken
    from stigmer_contract.exported_sessions import MAX_DOCUMENT_BYTES, MAX_EXECUTIONS
    from stigmer_contract.named_blobs import blobs_named_by

    found = client.list_executions(MAX_EXECUTIONS, session_id=session_id)
    if not found:
        raise StigmerError(f"could not export {session_id}: it has no executions")
    open_ones = [each.execution_id for each in found if not each.phase.is_terminal]
    if open_ones:
        raise StigmerError(
            f"could not export {session_id}: {open_ones[0]} has not ended", "wait for it to end, or cancel it"
        )
    executions, blobs = list[dict[str, object]](), dict[str, None]()
    for each in reversed(found):
        events = list[dict[str, object]]()
        for recorded in client.read_events(each.execution_id):
            event = recorded.event
            if isinstance(event, SnapshotTaken):  # files, which nobody has masked
                event = SnapshotSkipped(
                    turn=event.turn, call_id=event.call_id, reason="an exported session has no files"
                )
            blobs.update(dict.fromkeys(sorted(blobs_named_by(event))))
            events.append(
                {
                    "recorded_at": recorded.recorded_at.isoformat(),
                    "attempt": recorded.attempt,
                    "event": event.model_dump(mode="json", by_alias=True),
                }
            )
        executions.append({"events": events})
    document = {
        "format": "stigmer session",
        "version": 1,
        "exported_at": datetime.now(UTC).isoformat(),
        "executions": executions,
    }
    content = to_json(document)
    if len(content) > MAX_DOCUMENT_BYTES:
        raise StigmerError(
            f"could not export {session_id}: its logs take more than {MAX_DOCUMENT_BYTES >> 20} MiB"
        )
    return content, list(blobs)


def _write_archive(client: "ApiClient", path: Path, document: bytes, blobs: list[str]) -> None:
    from stigmer_cli.errors import CallRefused
    from stigmer_cli.output import print_note
    from stigmer_contract.error_codes import ErrorCode
    from stigmer_contract.exported_sessions import BLOB_FOLDER, DOCUMENT_NAME

    new = path.with_name(f".{path.name}.part")
    try:
        try:
            with _open_new(new) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(DOCUMENT_NAME, document)
                for sha256 in blobs:
                    try:
                        archive.writestr(f"{BLOB_FOLDER}{sha256}", client.fetch_blob(sha256))
                    except CallRefused as error:
                        if error.code != ErrorCode.NOT_FOUND:
                            raise
                        print_note(f"left out, since it is gone: {sha256}")
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise StigmerError(f"could not write {str(path)!r}: {error.strerror}") from error


def _open_new(path: Path) -> BinaryIO:
    """A file that nobody else can read: it holds what was said."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w+b")


# --- import -----------------------------------------------------------------------------------


def _open_archive(path: Path) -> zipfile.ZipFile:
    try:
        if not path.is_file():
            raise UsageError(f"could not read {str(path)!r}: it is not a file")
        return zipfile.ZipFile(path)
    except OSError as error:
        raise UsageError(f"could not read {str(path)!r}: {error.strerror}") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise StigmerError(f"could not import {str(path)!r}: it is no exported session") from error


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The document under an empty name, and the blobs by their SHA-256; anything else is refused."""
    from stigmer_contract.exported_sessions import BLOB_FOLDER, DOCUMENT_NAME, MAX_BLOBS, MAX_EXPORT_BYTES

    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename
        sha256 = "" if name == DOCUMENT_NAME else name.removeprefix(BLOB_FOLDER)
        if sha256 in found or (sha256 and not (name.startswith(BLOB_FOLDER) and _DIGEST.fullmatch(sha256))):
            raise StigmerError(f"could not import {str(path)!r}: {name!r} does not belong into such a file")
        found[sha256] = member
    if "" not in found:
        raise StigmerError(f"could not import {str(path)!r}: it is no exported session")
    if len(found) > MAX_BLOBS or sum(member.file_size for member in found.values()) > MAX_EXPORT_BYTES:
        raise StigmerError(f"could not import {str(path)!r}: it holds more than a session may")
    return found


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_bytes: int, path: Path) -> bytes:
    import zlib

    try:
        with archive.open(member) as stream:
            # Whatever its size is said to be.
            content = stream.read(max_bytes + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise StigmerError(f"could not import {str(path)!r}: {member.filename!r} is damaged") from error
    if len(content) > max_bytes:
        raise StigmerError(f"could not import {str(path)!r}: {member.filename!r} is too large")
    return content
