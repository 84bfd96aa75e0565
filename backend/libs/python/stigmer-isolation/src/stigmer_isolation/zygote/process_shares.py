"""Finds commands whose session has more processes than it may. Looks only, and kills nothing.

The kernel's limit counts the processes of a user, so a fork bomb of one session would take them from all, and
no program without privileges can set another. So it is looked often how many the machine has, which is one
small file; where they become more, each command's are counted.
"""
# ruff: noqa: PTH208 - pathlib would be a good part of what the zygote loads

import os
import time
from typing import Final

from stigmer_isolation.zygote.process_tree import HAS_CHILDREN_FILES, children_of, read_file

SHARE_BYTES: Final = 4
"""How long the number is that a launcher says."""
LOOK_MILLISECONDS: Final = 25.0
"""Between two looks while there are commands; in this time a fork bomb makes some hundred processes."""
COUNT_SECONDS: Final = 2.0
"""Between two counts where the machine's number stays: one session's may grow while another's shrink."""
NOTABLE_GROWTH: Final = 48
"""Of the machine's number, at which commands' are counted."""
_MOST_OF_THE_TIME: Final = 20
"""By how much longer than counting takes it is left alone."""

Session = tuple[int, int]
"""Device and number of the directory that its commands start in."""


class ProcessShares:
    """The commands of one zygote, by their supervisors' pids."""

    def __init__(self) -> None:
        self._commands: dict[int, tuple[Session, int]] = {}
        self._fewest = 0
        """Processes and threads of the machine, at least so many since they were counted."""
        self._count_again_at = 0.0
        self._not_before = 0.0

    @property
    def poll_milliseconds(self) -> float | None:
        """How long `find_over` need not be called; None: until there is another command."""
        return LOOK_MILLISECONDS if self._commands else None

    def add(self, supervisor: int, directory: int, share: int) -> None:
        """A command, its session's open directory, and how many processes that may have; 0: any number."""
        if share and HAS_CHILDREN_FILES:
            status = os.fstat(directory)
            self._commands[supervisor] = (status.st_dev, status.st_ino), share

    def remove(self, supervisor: int) -> None:
        """It ended."""
        self._commands.pop(supervisor, None)

    def find_over(self) -> list[int]:
        """Of each session that is over its share, the supervisor of the command that has the most."""
        begun = time.monotonic()
        if not self._commands or begun < self._not_before:
            return []
        all_of_them = _threads_of_the_machine()
        if all_of_them - self._fewest < NOTABLE_GROWTH and begun < self._count_again_at:
            self._fewest = min(self._fewest, all_of_them)
            self._not_before = begun + LOOK_MILLISECONDS / 2000  # each command's end wakes the zygote, too
            return []
        counted = {
            supervisor: count_processes(supervisor, share)
            for supervisor, (_, share) in self._commands.items()
        }
        sums = dict[Session, int]()
        for supervisor, (session, _) in self._commands.items():
            sums[session] = sums.get(session, 0) + counted[supervisor]
        largest = dict[Session, int]()
        for supervisor, (session, share) in self._commands.items():
            before = largest.get(session)
            if sums[session] > share and (before is None or counted[supervisor] > counted[before]):
                largest[session] = supervisor
        ended = time.monotonic()
        self._fewest = all_of_them
        self._not_before = ended + (ended - begun)
        self._count_again_at = ended + max(COUNT_SECONDS, _MOST_OF_THE_TIME * (ended - begun))
        return list(largest.values())


def count_processes(supervisor: int, enough: int) -> int:
    """How many processes and threads descend from a supervisor; not all of them where there are more."""
    count, pending = 0, children_of(supervisor)
    while pending and count <= enough:
        pid = pending.pop()
        try:
            count += len(os.listdir(f"/proc/{pid}/task"))
        except OSError:  # it ended
            continue
        pending += children_of(pid)
    return count


def _threads_of_the_machine() -> int:
    """Or of the container, where its /proc tells no more: `0.00 0.00 0.00 1/234 5678` (proc(5))."""
    try:
        return int(read_file("/proc/loadavg").split()[3].partition(b"/")[2])
    except (OSError, IndexError, ValueError):
        return 0
