"""Whose the files are that a runner's container works with.

A container runs as the person who started it; one that root starts runs as the image's own user, never as
root, and is given what it works with: the sessions' directories and its copy of the secrets.
"""

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from stigmer_contract.workspace_directories import opened

_SYSTEM_PATH: Final = "/usr/bin:/bin"
_TRY_SECONDS: Final = 10.0


def give(directories: list[Path], user: int) -> None:
    """Give the user directories of Stigmer's own with all that is in them; follows no link.

    Raises:
        OSError: they cannot be given.
    """
    # coreutils' walk holds each directory open, and bears any depth of what commands have nested.
    given = subprocess.run(
        [_system_program("chown"), "-R", "-h", f"{user}:{user}", "--", *map(str, directories)],
        env={},
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if given.returncode:
        raise OSError(given.stderr.strip().partition("\n")[0])


def can_write(directory: str, user: int) -> bool:
    """Whether the user may list, change and enter the directory, by modes and access lists alike.

    Raises:
        OSError: it cannot be opened, through no link, or not be told in time.
    """
    with opened(directory, mounts=()) as found:
        path = f"/proc/self/fd/{found.descriptor}"
        try:
            tried = subprocess.run(
                [_system_program("test"), "-r", path, "-a", "-w", path, "-a", "-x", path],
                user=user,
                group=user,
                extra_groups=[],
                pass_fds=[found.descriptor],
                env={},
                check=False,
                timeout=_TRY_SECONDS,
            )
        except subprocess.TimeoutExpired as error:  # of a file system whose server is away, say
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), directory) from error
    return tried.returncode == 0


def _system_program(name: str) -> str:
    found = shutil.which(name, path=_SYSTEM_PATH)
    if found is None:
        raise FileNotFoundError(f"there is no {name} in {_SYSTEM_PATH.replace(':', ' or ')}")
    return found
