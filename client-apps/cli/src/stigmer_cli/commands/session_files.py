"""Where the files of a session are, on this machine."""

import os
import shutil
from pathlib import Path

from stigmer_cli.config import load_configuration
from stigmer_cli.errors import StigmerError
from stigmer_contract.api import SessionResource


def session_directory(session: SessionResource) -> Path | None:
    """The directory that the session works in; None where it is another machine's, or not there."""
    configuration = load_configuration(os.environ)
    if session.workspace is not None:
        return Path(session.workspace)
    if configuration.server_endpoint is not None:
        return None
    directory = configuration.data_directory / "workspace" / session.session_id
    return directory if directory.is_dir() and not directory.is_symlink() else None


def remove_directory(directory: Path) -> None:
    """Remove the session's own directory with all that is in it; links are removed, not followed.

    Raises:
        StigmerError: something of it cannot be removed.
    """
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StigmerError(
            f"the session is deleted, but not all of its files: {error.filename}: {error.strerror}",
            f"remove {directory} by hand",
        ) from error
