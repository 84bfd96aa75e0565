"""Opens the directory a session works in: its own beneath the runner's root, or one that a person named."""

import os
import re
import stat
from pathlib import Path

from agent_runner.errors import ExecutionFailure
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.identifiers import SESSION_PREFIX

_SESSION_ID = re.compile(rf"{SESSION_PREFIX}_[0-9a-hjkmnp-tv-z]{{26}}")  # Crockford's base 32


def open_session_directory(root: Path, session_id: str) -> Path:
    """The session's own directory, made with mode 0700 where it is missing. Canonical.

    Raises:
        ExecutionFailure: the id is not one of ours, or the directory cannot be made or used.
    """
    if not _SESSION_ID.fullmatch(session_id):
        raise _unavailable(f"could not open a workspace: {session_id!r} is not a session id")
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = root.resolve(strict=True) / session_id
        directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.lstat()
    except OSError as error:
        raise _unavailable(
            f"could not make the workspace {str(root / session_id)!r}: {error.strerror}",
            f"let the runner write to {str(root)!r}",
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise _unavailable(f"could not open the workspace {str(directory)!r}: it is not a directory")
    return _usable(directory)


def open_named_directory(path: str) -> Path:
    """A directory that a person gave the agent to work in. Canonical; never made here.

    Raises:
        ExecutionFailure: it is not there, is no directory, or cannot be written.
    """
    if not Path(path).is_absolute():
        raise _unavailable(f"could not open the workspace {path!r}: the path is not absolute")
    try:
        # Not `Path.resolve`, to which a loop of links is a RuntimeError before Python 3.13.
        directory = Path(os.path.realpath(path, strict=True))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _unavailable(
            f"could not open the workspace {path!r}: {reason}",
            "name a directory that exists on the machine the runner runs on",
        ) from error
    if not directory.is_dir():
        raise _unavailable(f"could not open the workspace {path!r}: it is not a directory")
    if directory == Path(directory.anchor):
        raise _unavailable(f"could not open the workspace {path!r}: the agent would own the whole machine")
    return _usable(directory)


def _usable(directory: Path) -> Path:
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise _unavailable(
            f"could not open the workspace {str(directory)!r}: the runner may not write to it",
            "let the user that runs the runner read and write the directory",
        )
    return directory


def _unavailable(message: str, hint: str | None = None) -> ExecutionFailure:
    return ExecutionFailure(ErrorCode.WORKSPACE_UNAVAILABLE, message, hint)
