"""A container's first process: how it ends as its child does, and when it forks another one."""

import subprocess
import sys
from pathlib import Path

import pytest

# No process of a test is process 1; all that follows on that is as it is there.
CHILD = """
import os, signal, sys
os.getpid = lambda: 1
from agent_runner.pid_one import EXIT_RENEW, leave_first_process
is_contained = leave_first_process()
print(is_contained, flush=True)
with open(sys.argv[1], "a+") as begun:
    begun.write("x")
    begun.seek(0)
    count = len(begun.read())
"""


def run(tmp_path: Path, program: str) -> tuple[str, int]:
    """What the children said, and how the first process ended."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD + program, str(tmp_path / "begun")],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr, done.returncode


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("os._exit(7)", 7),
        ("signal.raise_signal(signal.SIGTERM)", 128 + 15),
        # As where it is asked to be renewed before it listens: nothing is in hand, so it goes on.
        ("signal.raise_signal(signal.SIGUSR2); os._exit(7)", 7),
        ("os._exit(EXIT_RENEW if count < 3 else 7)", 7),
        # As where it is asked once more while it ends.
        ("signal.signal(signal.SIGUSR2, signal.SIG_DFL)\n"
        "if count < 3: signal.raise_signal(signal.SIGUSR2)\nos._exit(7)", 7),
        # Who was told to end is not begun again.
        ("signal.signal(signal.SIGTERM, lambda *_: os._exit(EXIT_RENEW))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\nwhile True: signal.pause()", 0),
    ],
)  # fmt: skip
def test_the_first_process_ends_as_its_last_child_does(tmp_path: Path, program: str, code: int) -> None:
    said, ended = run(tmp_path, program)
    begun = 3 if "count < 3" in program else 1
    assert (said, ended) == ("True\n" * begun, code)
