"""Which session was the last one in a directory, for `--continue`, and which one a person goes on with."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stigmer_cli.errors import UsageError

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient

_FOLDER: Final = "last_sessions"


def remember_last_session(home: Path, session_id: str) -> None:
    """Note the session as the last one of the working directory; a home that takes no note ends nothing."""
    with suppress(OSError):
        file = _file(home)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = file.with_name(f"{file.name}.{os.getpid()}")
        new.write_text(session_id, encoding="utf-8")
        new.replace(file)


def read_last_session(home: Path) -> str | None:
    """The last session of the working directory; None: there is none."""
    try:
        return _file(home).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def find_session(client: "ApiClient", home: Path, given: str | None, *, goes_on: bool) -> str | None:
    """The session that a person goes on with; None: a new one.

    Args:
        client: of the server.
        home: Stigmer's.
        given: an id, or a part of one.
        goes_on: with the last one of the working directory.

    Raises:
        UsageError: there is none, or several fit.
    """
    from stigmer_cli.commands.references import find_session_id

    if given is not None:
        return find_session_id(client, given, last=False)
    if not goes_on:
        return None
    session_id = read_last_session(home)
    if session_id is None:
        raise UsageError(
            "there is no session of this directory yet", "start one with `stigmer run` or `stigmer chat`"
        )
    return session_id


def _file(home: Path) -> Path:
    directory = os.fsencode(Path.cwd())
    return home / _FOLDER / hashlib.sha256(directory).hexdigest()
