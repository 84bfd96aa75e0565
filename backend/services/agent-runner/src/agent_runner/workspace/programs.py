"""Programs that the tools themselves use, and where they are."""

import functools
import os
import sysconfig
from pathlib import Path

from stigmer_isolation.system_programs import find_system_program


@functools.cache
def find_ripgrep() -> str | None:
    """The `rg` that came with this program, else the system's; None where there is neither."""
    own = Path(sysconfig.get_path("scripts"), "rg")
    return str(own) if os.access(own, os.X_OK) else find_system_program("rg")


@functools.cache
def find_shell() -> str:
    """The shell that commands of agents are written for: bash, which models take for granted, else sh."""
    return find_system_program("bash") or "/bin/sh"
