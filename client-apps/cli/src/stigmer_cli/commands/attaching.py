"""Files that a person gives to an execution: named with `--attach`, or in the prompt behind an `@`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stigmer_cli.errors import UsageError

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient
    from stigmer_contract.attachments import AttachedFile

_MENTION = re.compile(r"(?:^|(?<=\s))@(?:\"([^\"]+)\"|(\S+))")


@dataclass(frozen=True)
class FileToAttach:
    """A file that was read."""

    name: str
    content: bytes


def read_attachments(paths: Sequence[str]) -> list[FileToAttach]:
    """The files of these paths, each once.

    Raises:
        UsageError: one cannot be read or attached, or there are too many.
    """
    from stigmer_cli.commands.shared_files import read_file
    from stigmer_contract.attachments import MAX_ATTACHMENTS, MAX_ATTACHMENTS_BYTES, check_attachment_name

    paths = list(dict.fromkeys(paths))
    if len(paths) > MAX_ATTACHMENTS:
        raise UsageError(f"{len(paths)} files are attached, and at most {MAX_ATTACHMENTS} may be")
    files = list[FileToAttach]()
    for given in paths:
        path = Path(given).expanduser()
        try:
            files.append(FileToAttach(check_attachment_name(path.name), read_file(path)))
        except OSError as error:
            raise UsageError(f"could not attach {given!r}: {error.strerror}") from error
        except ValueError as error:
            raise UsageError(f"could not attach {given!r}: {error}") from error
    if sum(len(file.content) for file in files) > MAX_ATTACHMENTS_BYTES:
        raise UsageError(f"the attached files are larger than {MAX_ATTACHMENTS_BYTES >> 20} MiB together")
    return files


def find_mentions(prompt: str) -> list[str]:
    """The paths behind an `@` in a prompt that are files here; what is none stays a word."""
    found = list[str]()
    for match in _MENTION.finditer(prompt):
        given = match[1] or match[2]
        # A sentence may go on behind a name.
        for path in (given, given.rstrip(".,;:!?)")):
            if _is_file(path):
                found.append(path)
                break
    return list(dict.fromkeys(found))


def upload_attachments(client: "ApiClient", files: Sequence[FileToAttach]) -> "list[AttachedFile]":
    """Store the files, for a new execution to name."""
    from stigmer_contract.attachments import AttachedFile

    return [AttachedFile(name=file.name, sha256=client.upload_blob(file.content)) for file in files]


def _is_file(path: str) -> bool:
    try:
        return Path(path).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, no such user
        return False
