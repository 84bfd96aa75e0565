"""Gives a directory's owner back what a command took away: a `chmod 0 .` would shut all later ones out."""
# ruff: noqa: PTH101 - by descriptor, so that nothing else can be in its place

import contextlib
import os
import stat
from typing import Final

from stigmer_isolation.beneath import OPEN_DIRECTORY

_OWNERS: Final = 0o700


def give_back_rights(directory: int | str) -> None:
    """See that this user may read, write and enter it, where it is this user's. O_PATH is enough."""
    if isinstance(directory, str):
        with contextlib.suppress(OSError):
            descriptor = os.open(directory, OPEN_DIRECTORY | os.O_NOFOLLOW)
            try:
                give_back_rights(descriptor)
            finally:
                os.close(descriptor)
        return
    status = os.fstat(directory)
    if status.st_uid == os.geteuid() and status.st_mode & _OWNERS != _OWNERS:
        # fchmod(2) takes no descriptor that was opened with O_PATH.
        place = f"/proc/self/fd/{directory}" if hasattr(os, "O_PATH") else directory
        with contextlib.suppress(OSError):  # on a disk that is read-only by now
            os.chmod(place, stat.S_IMODE(status.st_mode) | _OWNERS)
