"""Opens the directory a session works in: its own beneath the runner's root, or one that a person named.

A named one is judged by the contract's rules at each leg, as it was opened: step by step, through no link.
What it was at the session's first leg on this machine is kept beside the sessions' directories, where no
command gets; it has to be the same one later. So commands of one session that can rename or link what lies
above another session's directory lead that session nowhere else.
"""

import contextlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_runner.errors import ExecutionFailure
from agent_runner.settings import RunnerSettings
from agent_runner.workspace.owner_rights import give_back_rights
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.identifiers import SESSION_PREFIX
from stigmer_contract.workspace_directories import (
    Identity,
    LinkOnTheWay,
    OpenedDirectory,
    look_at,
    opened,
    surroundings_here,
)
from stigmer_contract.workspace_rules import is_within, refuse

IDENTITIES: Final = ".workspaces"
"""In the runner's root: what the named directory of each session was, and its path, by session."""

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
    # Closed by a command whose runner was killed before it could see to that.
    give_back_rights(str(directory))
    return _usable(directory)


@dataclass(frozen=True)
class NamedDirectory:
    """A directory that a session was given to work in."""

    path: Path
    identity: Identity


def open_named_directory(path: str, session_id: str, settings: RunnerSettings) -> NamedDirectory:
    """A directory that a person gave the session to work in; never made here.

    Raises:
        ExecutionFailure: it is not there, is not for an agent, is not the one that the session had
            before, or cannot be written.
    """
    try:
        with opened(path) as directory:
            _check_rules(directory, settings)
            if os.fstat(directory.descriptor).st_nlink == 0:  # a container's mount outlives what it shows
                raise _unavailable(
                    f"could not open the workspace {path!r}: it was removed", "make it anew, then run again"
                )
            if not os.access(".", os.R_OK | os.W_OK | os.X_OK, dir_fd=directory.descriptor):
                is_own = os.fstat(directory.descriptor).st_uid == os.geteuid()
                raise _not_writable(path, "it is closed to its owner: `chmod u+rwx` it" if is_own else None)
            _check_identity(directory, session_id, settings.sandbox_root_dir)
            return NamedDirectory(Path(directory.place.path), directory.identity)
    except LinkOnTheWay as error:
        raise _unavailable(
            f"could not open the workspace {path!r}: {error.link!r} is a symbolic link",
            f"start a session with the directory itself, {os.path.realpath(path)!r}",
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _unavailable(
            f"could not open the workspace {path!r}: {reason}",
            "name a directory that exists on the machine the runner runs on",
        ) from error


def list_named_directories(root: Path) -> set[Path]:
    """The directories that sessions of this machine were given, where their commands left what they liked."""
    found = set[Path]()
    with contextlib.suppress(OSError):
        for kept in (root / IDENTITIES).iterdir():
            with contextlib.suppress(OSError, IndexError):
                found.add(Path(os.fsdecode(kept.read_bytes()).split("\n")[1]))
    return found


def _check_rules(directory: OpenedDirectory, settings: RunnerSettings) -> None:
    root, home, path = settings.sandbox_root_dir, settings.stigmer_home, directory.place.path
    around = surroundings_here(state=[home] if home else [], sessions=[root])
    refusal = refuse(directory.place, around)
    if refusal is not None:
        raise _unavailable(f"could not open the workspace {path!r}: {refusal.reason}", refusal.remedy)
    roots = settings.workspace_roots
    if roots is not None and not is_within(directory.place, [look_at(str(one)) for one in roots]):
        raise _unavailable(
            f"could not open the workspace {path!r}: it lies in none of the runner's STIGMER_WORKSPACE_ROOTS",
            f"name a directory in {' or '.join(map(str, roots))}",
        )


def _check_identity(directory: OpenedDirectory, session_id: str, root: Path) -> None:
    """See that it is the directory that the session had before, or keep which it is."""
    kept = root / IDENTITIES / session_id
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = f"{directory.identity}\n{directory.place.path}\n"
    with contextlib.suppress(FileExistsError):
        draft = kept.with_name(f".{session_id}.{os.getpid()}")
        draft.write_bytes(os.fsencode(text))
        try:
            os.link(draft, kept)  # of two legs at once both read the first's
        finally:
            draft.unlink()
    if kept.read_bytes() != os.fsencode(text):
        raise _unavailable(
            f"could not open the workspace {directory.place.path!r}: "
            "it is not the directory that the session began in; it was moved, or made anew",
            "start a new session in it",
        )


def _usable(directory: Path) -> Path:
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise _not_writable(str(directory))
    return directory


def _not_writable(path: str, hint: str | None = None) -> ExecutionFailure:
    return _unavailable(
        f"could not open the workspace {path!r}: the runner may not write to it",
        hint or "let the user that runs the runner read and write the directory",
    )


def _unavailable(message: str, hint: str | None = None) -> ExecutionFailure:
    return ExecutionFailure(ErrorCode.WORKSPACE_UNAVAILABLE, message, hint)
