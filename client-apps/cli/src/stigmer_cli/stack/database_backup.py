"""Keeps a copy of the log's database before another version of Stigmer changes its tables.

Of the local stack's SQLite file; PostgreSQL has ways of its own, which are its owner's. Never restores one.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from stigmer_cli.config import Configuration, replace_file
from stigmer_cli.errors import BackupFailed
from stigmer_cli.program_version import program_version

KEPT_BACKUPS: Final = 3
SPARE_BYTES: Final = 200_000_000
"""What stays free on the disk besides."""


def backup_directory(configuration: Configuration) -> Path:
    """Where the copies are, one for each version that was left behind."""
    return configuration.data_directory / "backups"


def require_room(configuration: Configuration) -> None:
    """Whether a copy that the next start would make has room; asked before a stack that runs is stopped.

    Raises:
        BackupFailed: it has not.
    """
    database = _database_at_stake(configuration)
    if database is None:
        return
    needed_bytes = database.stat().st_size + SPARE_BYTES
    if shutil.disk_usage(database.parent).free < needed_bytes:
        raise BackupFailed(database, f"it needs {needed_bytes / 1e9:.1f} GB on its disk")


def back_up(configuration: Configuration, report: Callable[[str], None]) -> None:
    """Copies the database where another version used it last. Only while no server runs.

    Raises:
        BackupFailed: the copy cannot be made.
    """
    database = _database_at_stake(configuration)
    if database is None:
        return
    require_room(configuration)
    folder = backup_directory(configuration)
    target = folder / f"stigmer-{_last_version(configuration) or 'unknown'}.db"
    report(f"another version of Stigmer used the database; a copy of it is kept in {target}")
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        draft.touch(mode=0o600)
        _copy(database, draft)
        draft.replace(target)
        for older in sorted(folder.glob("stigmer-*.db"), key=lambda file: file.stat().st_mtime)[
            :-KEPT_BACKUPS
        ]:
            older.unlink()
    except sqlite3.DatabaseError as error:  # a damaged one is the server's to tell of, which has more to say
        report(f"note: the database could not be copied: {error}")
    except OSError as error:
        raise BackupFailed(database, error.strerror or str(error)) from error
    finally:
        draft.unlink(missing_ok=True)


def note_version(configuration: Configuration) -> None:
    """Writes down which version uses the database from now on."""
    replace_file(_version_file(configuration), f"{program_version()}\n")


def _database_at_stake(configuration: Configuration) -> Path | None:
    database = configuration.data_directory / "stigmer.db"
    is_ours = configuration.server_database_url is None
    is_left = is_ours and database.is_file() and _last_version(configuration) != program_version()
    return database if is_left else None


def _last_version(configuration: Configuration) -> str | None:
    try:
        text = _version_file(configuration).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if text and text.replace(".", "").replace("-", "").isalnum() else None


def _version_file(configuration: Configuration) -> Path:
    return configuration.data_directory / "version"


def _copy(source: Path, target: Path) -> None:
    # By SQLite, which takes what stands in the log of a server that was killed, too.
    origin = sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)
    try:
        copy = sqlite3.connect(target)
        try:
            origin.backup(copy)
        finally:
            copy.close()
    finally:
        origin.close()
