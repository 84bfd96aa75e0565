"""Writes down a defect for whoever will repair it: versions and traceback, never arguments or environment."""

import os
import platform
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from stigmer_cli.program_version import program_version
from stigmer_contract.untrusted_text import escape_controls


def write_crash_log(error: BaseException) -> Path | None:
    """Writes the file; answers its path, or None where no folder can be written to.

    Goes without the configuration, which may be what is broken.
    """
    now = datetime.now(UTC)
    text = (
        f"time: {now.isoformat(timespec='seconds')}\n"
        f"stigmer: {program_version()}\n"
        f"python: {platform.python_version()} on {sys.platform}\n\n"
        + escape_controls("".join(traceback.format_exception(error)))
    )
    home = Path(os.environ.get("STIGMER_HOME") or "~/.stigmer").expanduser()
    for folder in (home / "logs", Path(tempfile.gettempdir())):
        path = folder / f"stigmer-crash-{now:%Y%m%d-%H%M%S}-{os.getpid()}.log"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            continue
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        return path
    return None
