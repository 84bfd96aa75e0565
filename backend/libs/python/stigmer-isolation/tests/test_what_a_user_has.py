"""What the kernel counts for each user: a command that takes all of it leaves enough for others."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from other_person import other_person

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="this is counted so on Linux only")

# Root is exempt from both; so an ordinary user starts the commands.
PROGRAM = """
import asyncio, ctypes, os, resource, signal, sys
from stigmer_isolation.launcher import CommandLauncher

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))  # as most systems begin
FLOODS = {
    "descriptors": '''
import socket
pairs = []
try:
    while True:
        pairs.append(socket.socketpair())
        for _ in range(8):
            socket.send_fds(pairs[-1][0], [b"x"], [0] * 250)
except OSError:
    pass
''',
    "signals": '''
import ctypes, os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
while ctypes.CDLL(None).sigqueue(os.getpid(), 40, None) == 0:
    pass
''',
}
THEN = '''
import os, time
open("full", "w").close()
while not os.path.exists("end"):
    time.sleep(0.05)
'''

async def run(launcher, directory, program):
    os.makedirs(directory, exist_ok=True)
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    return await launcher.run(
        [sys.executable, "-c", program], directory=opened, environment={}, timeout_seconds=200
    )

async def main():
    async with CommandLauncher() as launcher:
        assert launcher.policy.landlock_abi or launcher.policy.processes is None
        for name, flood in FLOODS.items():
            flooding = asyncio.create_task(run(launcher, name, flood + THEN))
            while not os.path.exists(f"{name}/full"):
                if flooding.done():
                    sys.exit(f"{name}: {flooding.result()}")
                await asyncio.sleep(0.05)
            result = await run(launcher, "other", "print('on')")
            signal.pthread_sigmask(signal.SIG_BLOCK, [40])
            queued = ctypes.CDLL(None).sigqueue(os.getpid(), 40, None)
            print(name, result.stdout.strip(), queued)
            open(f"{name}/end", "w").close()
            ended = await flooding
            assert ended.exit_code == 0, ended.stderr

asyncio.run(main())
"""


@contextlib.contextmanager
def _as_ordinary_user(tmp_path: Path) -> Generator[tuple[list[str], dict[str, str], Path]]:
    """How to start a program, its environment and its directory."""
    if os.getuid() != 0:
        yield [], dict(os.environ), tmp_path
        return
    with other_person() as person:
        yield list(person.prefix), dict(person.environment), person.home


def test_a_command_that_takes_all_of_a_kind_leaves_what_others_of_the_user_need(tmp_path: Path) -> None:
    with _as_ordinary_user(tmp_path) as (prefix, environment, directory):
        done = subprocess.run(
            [*prefix, sys.executable, "-c", PROGRAM],
            env=environment,
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
    assert (done.stdout, done.returncode) == ("descriptors on 0\nsignals on 0\n", 0), done.stderr
