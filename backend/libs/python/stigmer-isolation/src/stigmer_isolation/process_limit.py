"""How many processes commands may have. The kernel counts all that a user has, so these are counted first.

The limit that a command gets is what the user has now and what is granted on top. Root is exempt from it.
"""

import os
import sys
import tempfile
from typing import Final

from stigmer_isolation.errors import IsolationError
from stigmer_isolation.launcher import CommandLauncher

CALIBRATION_SECONDS: Final = 20.0

# The lowest limit under which a fork works is what the user has already.
_COUNT = """
import os, resource
_, hard = resource.getrlimit(resource.RLIMIT_NPROC)
def can_fork(limit):
    resource.setrlimit(resource.RLIMIT_NPROC, (limit, hard))
    try:
        pid = os.fork()
    except OSError:
        return False
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True
low, high = 1, 1 << 17
if hard != resource.RLIM_INFINITY:
    high = min(high, hard)
if can_fork(low) or not can_fork(high):
    print("no limit")
else:
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if can_fork(middle) else (middle, high)
    print(high)
"""


async def calibrate_process_limit(launcher: CommandLauncher, granted: int | None) -> None:
    """Let commands have `granted` processes on top of what the user has now; no limit where none can work."""
    if granted is None or os.getuid() == 0:
        return
    with tempfile.TemporaryDirectory(prefix="stigmer-calibration-") as name:
        directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            result = await launcher.run(
                [sys.executable, "-I", "-S", "-c", _COUNT],
                directory=directory,
                environment={},
                timeout_seconds=CALIBRATION_SECONDS,
                policy=launcher.policy._replace(processes=None),
            )
        except IsolationError:
            return
        finally:
            os.close(directory)
    if result.stdout.strip().isdigit():
        launcher.policy = launcher.policy._replace(processes=int(result.stdout) + granted)
