"""Ends the components when the supervisor was killed and could not: `python -m stigmer_cli.processes.guard`.

Reads from stdin which processes run (`+ PID MARK SECONDS`, the time that each may take to end) and which have
ended (`- PID`). The supervisor holds the other end, so the end of stdin is the end of the supervisor. Unlike
Linux's PR_SET_PDEATHSIG this is portable, and the components get time to end in good order. Does nothing as
long as the supervisor lives.
"""

import signal
import sys
from collections.abc import Mapping
from typing import Final

from stigmer_cli.processes.identity import ProcessIdentity, end_processes

GUARD_COMMAND: Final = (sys.executable, "-P", "-m", "stigmer_cli.processes.guard")


def environment_of_guard(environ: Mapping[str, str]) -> dict[str, str]:
    """What it needs to be found and to start, and no secret."""
    return {name: environ[name] for name in ("PATH", "PYTHONPATH", "STIGMER_HOME") if name in environ}


def main() -> None:
    """Waits for the end of stdin, then ends what still runs."""
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)  # ends with the supervisor, never before it
    watched: dict[int, tuple[ProcessIdentity, float]] = {}
    for line in sys.stdin:
        match line.split():
            case ["+", pid, mark, seconds]:
                watched[int(pid)] = ProcessIdentity(int(pid), mark), float(seconds)
            case ["-", pid]:
                watched.pop(int(pid), None)
            case _:
                raise ValueError(f"the supervisor sent {line!r}")
    end_processes(dict(watched.values()))


if __name__ == "__main__":
    main()
