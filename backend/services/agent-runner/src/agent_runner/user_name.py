"""Names the user that a container runs as, where its image does not know them: ssh ends without a name.

The image looks for further users where a link leads into /tmp (libnss-extrausers; those below number 500 it
passes over), because its own lists cannot be written. Natively, and in other images, there is no such link.
"""

import contextlib
import grp
import logging
import os
import pwd
import sys
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

USER_NAME: Final = "agent"
LISTS: Final = Path("/var/lib/extrausers")


def name_own_user(lists: Path = LISTS) -> list[Path]:
    """Give this process's user and group a name, where they have none; the files that say so. Blocks."""
    user, group = os.getuid(), os.getgid()
    entries = dict[str, str]()
    if sys.platform != "linux" or not lists.is_dir():
        return []
    if not _is_known_user(user):
        entries["passwd"] = f"{USER_NAME}:x:{user}:{group}::/tmp:/bin/bash\n"
    if not _is_known_group(group):
        entries["group"] = f"{USER_NAME}:x:{group}:\n"
    written = list[Path]()
    for name, entry in entries.items():
        try:
            file = (lists / name).readlink()
            file.parent.mkdir(mode=0o755, exist_ok=True)
            file.write_text(entry, encoding="ascii")
            written.append(file)
        except OSError as error:
            logger.warning("user %d has no name, which some programs want: %s", user, error)
    return written


def _is_known_user(user: int) -> bool:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(user).pw_name != USER_NAME  # that was written by a runner before
    return False


def _is_known_group(group: int) -> bool:
    with contextlib.suppress(KeyError):
        return grp.getgrgid(group).gr_name != USER_NAME
    return False
