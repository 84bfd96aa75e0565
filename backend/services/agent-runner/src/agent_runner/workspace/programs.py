"""Programs that the tools themselves use, and where they are."""

import functools
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Final

SYSTEM_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
"""Where a program is looked for that nobody's `PATH` may replace."""


@functools.cache
def find_ripgrep() -> str | None:
    """The `rg` that came with this program, else the system's; None where there is neither."""
    own = Path(sysconfig.get_path("scripts"), "rg")
    return str(own) if os.access(own, os.X_OK) else shutil.which("rg", path=SYSTEM_PATH)


@functools.cache
def find_shell() -> str:
    """The shell that commands of agents are written for: bash, which models take for granted, else sh."""
    return shutil.which("bash", path=SYSTEM_PATH) or "/bin/sh"
