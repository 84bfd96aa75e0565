"""Tries the hostile commands of `attack_list` against the runner, the machine and other sessions.

Used in the tests' own process, and as a program (`command_attacks.py [plain|unprotected|exhaust]`) inside the
runner's container and as another person of this machine, where it prints what got through. So it imports the
runner and the standard library only. `plain`: without bubblewrap.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import textwrap
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import agent_runner
from agent_runner.commands import open_commands
from agent_runner.settings import load_settings
from agent_runner.workspace import SessionWorkspace
from attack_list import ATTACKS, MUST_WORK, PRELUDE
from stigmer_isolation.command_environment import command_environment
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.running_command import StreamName, command_output_listener
from stigmer_isolation.self_test import probe_networks

KEY = "CANARY_API_KEY"
SECRET = "canary-4f1d0c"


@dataclass(frozen=True)
class Scene:
    """A runner with a key, a session that attacks, and one that has something to lose."""

    launcher: CommandLauncher
    attacker: SessionWorkspace
    other: Path
    variables: Mapping[str, str]
    arrived_signals: list[int]
    """Signals that commands got through to the runner."""

    async def results(self, attack: str) -> dict[str, bool]:
        """Run one attack; whether each part of it succeeded, by name."""
        program = PRELUDE + textwrap.dedent(attack)
        done = await self.attacker.run([sys.executable, "-c", program], env=self.variables, timeout=60)
        if done.exit_code != 0 or (self.launcher.policy.landlock_abi and SECRET in done.stdout):
            raise AssertionError(f"ended with {done.exit_code}: {done.stdout}{done.stderr}")
        lines = [line.partition(" ") for line in done.stdout.splitlines()]
        return {rest.partition(" |")[0]: state == "OPEN" for state, _, rest in lines}


@asynccontextmanager
async def scene(launcher: CommandLauncher, root: Path) -> AsyncGenerator[Scene]:
    """Set it up beneath `root`, which holds the sessions."""
    attacker, other = root / f"a-{secrets.token_hex(8)}", root / f"b-{secrets.token_hex(8)}"
    attacker.mkdir()
    other.mkdir()
    for name in ("secret.txt", "doomed", "movable", "long"):
        (other / name).write_text(f"{SECRET}\n", encoding="utf-8")
    with (
        tempfile.TemporaryDirectory() as outside,
        socket.socket(socket.AF_UNIX) as local,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract_datagrams,
        socket.create_server(("127.0.0.1", 0)) as listener,
        _shared_memory() as memory,
    ):
        for name in ("secret", ".netrc", ".bashrc"):
            _write(f"{outside}/{name}")
        local.bind(f"{outside}/socket")
        local.listen()
        abstract_name = f"@stigmer-{secrets.token_hex(8)}"
        abstract.bind(abstract_name.replace("@", "\0"))
        abstract.listen()
        datagrams.bind(f"{outside}/datagrams")
        abstract_datagrams.bind(abstract_name.replace("@", "\0") + "d")
        arrived: list[int] = []
        before = signal.signal(signal.SIGUSR1, lambda number, _: arrived.append(number))
        mark = f"1000.{secrets.randbelow(10**12)}"
        sibling = await _start(SessionWorkspace(other, launcher=launcher), f"echo on; exec sleep {mark}")
        variables = {
            "RUNNER": str(os.getpid()),
            "GROUP": str(os.getpgrp()),
            "SIBLING": str(await _pid_of(mark)),
            "PORT": str(listener.getsockname()[1]),
            "OTHER": str(other),
            "ROOT": str(root),
            "OUTSIDE": outside,
            "CODE": agent_runner.__file__,
            "ABSTRACT": abstract_name,
            "PYTHON": sys.executable,
            "MEMORY": str(memory),
        }
        try:
            workspace = SessionWorkspace(attacker, launcher=launcher)
            yield Scene(launcher, workspace, other, variables, arrived)
        finally:
            sibling.running.cancel()
            await asyncio.wait({sibling.running})
            signal.signal(signal.SIGUSR1, before)


@contextlib.contextmanager
def _shared_memory() -> Generator[Path]:
    """Some of a program that is no command."""
    path = Path("/dev/shm") / f"stigmer-test-{secrets.token_hex(8)}"
    _write(str(path))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _write(path: str) -> None:
    Path(path).write_text(SECRET, encoding="utf-8")


@dataclass(frozen=True)
class _Started:
    running: "asyncio.Task[object]"


async def _start(workspace: SessionWorkspace, script: str) -> _Started:
    """Start a script and wait for its first line."""
    has_begun = asyncio.Event()

    def note(stream: StreamName, text: str) -> None:
        has_begun.set()

    token = command_output_listener.set(note)
    running: asyncio.Task[object] = asyncio.create_task(workspace.run(["sh", "-c", script]))
    command_output_listener.reset(token)
    async with asyncio.timeout(30):
        await has_begun.wait()
        return _Started(running)


async def _pid_of(mark: str) -> int:
    """The process whose last argument is the mark, by its number here; it may number itself otherwise."""
    async with asyncio.timeout(30):
        while True:
            for directory in Path("/proc").glob("[0-9]*"):  # noqa: ASYNC240 - not a disk's
                with contextlib.suppress(OSError):
                    if (directory / "cmdline").read_bytes().endswith(f"\0{mark}\0".encode()):
                        return int(directory.name)
            await asyncio.sleep(0.01)


async def run_all(launcher: CommandLauncher, root: Path) -> dict[str, list[str]]:
    """Every attack: the parts that succeeded, by title; and what should work and does not."""
    open_parts: dict[str, list[str]] = {}
    async with scene(launcher, root) as here:
        for title, attack in ATTACKS.items():
            results = await here.results(attack)
            open_parts[title] = [name for name, is_open in results.items() if is_open]
        open_parts["11 signals by descriptor"] = [str(number) for number in here.arrived_signals]
        by_network = await probe_networks(launcher, ("none", "web", "all"))
        open_parts["25 networks"] = [
            f"{way}: {network}" for network, ways in by_network.items() for way in ways
        ]
        broken = list[str]()
        for title, script in MUST_WORK.items():
            done = await here.attacker.run(["bash", "-c", script], env=here.variables, timeout=60)
            if done.exit_code != 0:
                broken.append(f"{title}: {done.stderr[-300:]}")
        open_parts["28 must work"] = broken
    return open_parts


# In a redirection the counter would count in a process of its own.
_FILL = "i=0; while i=$((i + 1)); head -c 9000000 /dev/zero >fill-$$-$i; do :; done; sleep 1000"
EXHAUSTION: Mapping[str, str] = {
    "22 fork bomb": "bomb() { bomb | bomb & }; bomb; sleep 1000",
    "21 pid hopper": """"$PYTHON" -c '
import os
while True:
    if os.fork(): os._exit(0)
    os.setsid()'; sleep 1000""",
    "23 memory": """"$PYTHON" -c '
import os
for _ in range(7): os.fork() or os.setpriority(os.PRIO_PROCESS, 0, 19)
held = []
while True: held.append(bytearray(1 << 20))'; sleep 1000""",
    "23 memory files": """"$PYTHON" -c '
import os
files = [os.memfd_create("m") for _ in range(64)]
while True:
    for file in files: os.write(file, bytes(1 << 20))'; sleep 1000""",
    "23 /dev/shm": "cd /dev/shm; FILL",
    "23 $TMPDIR": "cd $TMPDIR; FILL",
    "24 disk": "FILL",
}
"""Commands that use up the machine, for a container with limits only."""


EXHAUSTION_SECONDS = 4.0
"""Far longer than it takes to use everything up."""
LIMITED = {"22 fork bomb": "limit of processes", "23 $TMPDIR": "disk quota", "24 disk": "disk quota"}
"""What is ended by a limit, and which; on a slow machine that takes longer."""
LIMITED_SECONDS = 60.0


async def exhaust_all(launcher: CommandLauncher, root: Path) -> dict[str, str]:
    """How each ended, while another session's command and the runner's own processes and threads go on."""
    ends: dict[str, str] = {}
    async with scene(launcher, root) as here:
        for title, script in EXHAUSTION.items():
            attacking = asyncio.create_task(
                here.attacker.run(
                    ["bash", "-c", script.replace("FILL", _FILL)],
                    env=here.variables,
                    timeout=LIMITED_SECONDS if title in LIMITED else EXHAUSTION_SECONDS,
                )
            )
            failures = 0
            while not attacking.done():
                failures += await _failures_of_the_runner()
                await asyncio.wait({attacking}, timeout=0.2)
            error = attacking.exception()
            ends[title] = "returned" if error is None else type(error).__name__
            for limit in LIMITED.values():
                if error is not None and limit in str(error):
                    ends[title] = limit
            os.kill(int(here.variables["SIBLING"]), 0)
            then = await SessionWorkspace(here.other, launcher=launcher).run(["echo", "on"])
            if failures or then.stdout != "on\n":
                ends[title] += f", but the runner failed {failures} times: {then}"
            await here.attacker.run(["sh", "-c", "rm -f fill-*"])
    return ends


async def _failures_of_the_runner() -> int:
    """Whether it can start a thread and a process, as it must at any time."""
    try:
        await asyncio.to_thread(int)
        child = await asyncio.create_subprocess_exec("/bin/true")
        return int(await child.wait() != 0)
    except (OSError, RuntimeError):
        return 1


async def _main() -> None:
    """Inside the container: as the runner would, with its settings, in its workspace."""
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # as `protect_process`
    environ = {**os.environ, "STIGMER_TOKEN": "none"}
    if sys.argv[1:] == ["unprotected"]:
        environ["STIGMER_ISOLATION"] = "off"
    settings = load_settings(environ)
    async with open_commands(settings, command_environment(os.environ)) as commands:
        if sys.argv[1:] == ["exhaust"]:
            print(json.dumps(await exhaust_all(commands.launcher, settings.sandbox_root_dir)))
            return
        is_in_bubblewrap = commands.launcher.bubblewrap is not None
        if sys.argv[1:] == ["plain"]:
            commands.launcher.bubblewrap = None
        results = await run_all(commands.launcher, settings.sandbox_root_dir)
        print(
            json.dumps(
                {
                    "level": commands.isolation.level,
                    "has_bubblewrap": is_in_bubblewrap,
                    "results": results,
                }
            )
        )


if __name__ == "__main__":
    asyncio.run(_main())
