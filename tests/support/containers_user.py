"""The user that runners' containers of this test run's engines run as, and what is theirs."""

import os
from pathlib import Path

from stigmer_contract.workspace_directories import CONTAINED_USER

CONTAINERS_USER = os.getuid() or CONTAINED_USER


def give_to_containers(directory: Path) -> None:
    """Make the directory with all in it theirs, as root has to before it names a workspace."""
    if os.getuid() != CONTAINERS_USER:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, CONTAINERS_USER, CONTAINERS_USER, follow_symlinks=False)
