"""What Linux tells of a process in one line (proc_pid_stat(5)). Loads nothing to speak of."""

from pathlib import Path


def stat_fields(pid: int) -> list[bytes]:
    """The fields behind the name, which may hold anything: the state is the first, the start the 20th.

    Raises:
        OSError: there is no such process.
    """
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
