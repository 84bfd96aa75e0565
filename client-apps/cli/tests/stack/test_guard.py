"""The guard ends what a dead supervisor left; each process has the time that it needs to leave nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from stack_home import COMMAND_SECONDS
from stigmer_cli.processes.guard import GUARD_COMMAND
from stigmer_cli.processes.identity import identify

SLOW_TO_END = """
import signal, sys
signal.signal(signal.SIGTERM, lambda number, frame: print("asked", flush=True))
print("ready", flush=True)
sys.stdin.readline()
"""
"""As what stands for a container that its engine takes long to remove."""
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
signal.pause()
"""


def start(program: str) -> "subprocess.Popen[str]":
    """A process that is ready, and leads a group as components do."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_each_process_has_its_own_time_to_end_when_the_supervisor_is_no_more(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "STIGMER_HOME": str(tmp_path)}
    guarding = subprocess.Popen(GUARD_COMMAND, stdin=subprocess.PIPE, text=True, env=environment)
    with start(SLOW_TO_END) as slow, start(STUBBORN) as stubborn, guarding as guard:
        assert slow.stdout is not None
        assert slow.stdin is not None
        assert guard.stdin is not None
        try:
            for process, seconds in ((slow, 10 * COMMAND_SECONDS), (stubborn, 0.0)):
                identity = identify(process.pid)
                assert identity is not None
                guard.stdin.write(f"+ {identity.pid} {identity.mark} {seconds}\n")
            guard.stdin.close()

            assert stubborn.wait(COMMAND_SECONDS) == -signal.SIGKILL
            assert slow.stdout.readline() == "asked\n"
            assert (slow.poll(), guard.poll()) == (None, None)

            slow.stdin.write("\n")
            slow.stdin.flush()
            assert slow.wait(COMMAND_SECONDS) == 0
            assert guard.wait(COMMAND_SECONDS) == 0
        finally:
            for process in (slow, stubborn, guard):
                process.kill()
