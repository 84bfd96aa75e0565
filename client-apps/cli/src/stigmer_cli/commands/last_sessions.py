"""Which session was the last one in a directory, for `--continue`."""

import hashlib
import os
from pathlib import Path
from typing import Final

_FOLDER: Final = "last_sessions"


def remember_last_session(home: Path, session_id: str) -> None:
    """Note the session as the last one of the working directory."""
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


def _file(home: Path) -> Path:
    directory = os.fsencode(Path.cwd())
    return home / _FOLDER / hashlib.sha256(directory).hexdigest()
