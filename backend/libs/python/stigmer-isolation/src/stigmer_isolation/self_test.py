"""How well commands are isolated on this machine, found by trying: attacks, run as any command is."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Container, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from stigmer_isolation.bubblewrap import Bubblewrap
from stigmer_isolation.errors import IsolationError
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.network_probe import NETWORK_PROBE
from stigmer_isolation.zygote.landlock import PORTS_ABI, SCOPE_ABI, TRUNCATE_ABI
from stigmer_isolation.zygote.own_mounts import SHARED_MEMORY
from stigmer_isolation.zygote.policy import Network, Policy

SELF_TEST_SECONDS: Final = 20.0


class IsolationLevel(StrEnum):
    """From best to worst."""

    FULL = "full"
    """Nothing that was tried got out (Landlock 6, Linux 6.12)."""
    GOOD = "good"
    """The same, but sessions can signal each other's commands (Landlock 3, Linux 6.2).

    Or the user is root, and commands can change the modes of the machine's devices and of /proc.
    """
    PARTIAL = "partial"
    """The same on Landlock 1, Linux 5.13: the rest is done by the system call filter."""
    WEAK = "weak"
    """No network and no look into other processes, but every file of the user is open.

    Where there is no Landlock, but something else keeps processes apart: SELinux, or that the user is root,
    whose powers commands have not. Else the keys in environments of the person's own shells are open: `NONE`.
    """
    NONE = "none"
    """Commands can do what the user can who starts them."""


ENOUGH: Final = (IsolationLevel.FULL, IsolationLevel.GOOD, IsolationLevel.PARTIAL)


@dataclass(frozen=True)
class SelfTest:
    """What was found."""

    level: IsolationLevel
    findings: tuple[str, ...] = ()
    """What commands can do that they should not, or why that could not be found out."""
    no_bubblewrap_because: str | None = "it was not tried"
    """Why commands do not run in bubblewrap, besides; None: they do."""

    @property
    def is_enough(self) -> bool:
        """Whether commands are held away from each other's files and from the person's."""
        return self.level in ENOUGH


_ATTACKS = """
import json, os, socket, sys
runner, other, victim, mine, memory = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:6]
def read_another_environment():
    return b"stigmer-canary" in open(f"/proc/{other}/environ", "rb").read()
def read_environments():
    for pid in {runner, 1}:
        try:
            return bool(open(f"/proc/{pid}/environ", "rb").read())
        except OSError:
            pass
    return False
def keep_mode(path):
    os.chmod(path, os.stat(path).st_mode & 0o7777)
attacks = {
    "read another session's file": lambda: open(victim).read(),
    "change another session's file": lambda: open(victim, "a").write("x"),
    "empty another session's file": lambda: os.close(os.open(victim, os.O_RDONLY | os.O_TRUNC)),
    "use another program's shared memory": lambda: open(memory, "r+").close(),
    "read the runner's environment": read_environments,
    "read the environment of another process of the user": read_another_environment,
    "signal the runner": lambda: os.kill(runner, 0),
    "see that another session's file exists": lambda: os.stat(victim),
    "change the times of another session's file": lambda: os.utime(victim),
    "change the modes of the machine's devices": lambda: keep_mode("/dev/full"),
    "change the modes of entries of /proc": lambda: keep_mode("/proc/version"),
    "write in its own directory": lambda: open(mine, "w").write("x"),
}
done = []
for name, attack in attacks.items():
    try:
        if attack() is not False:
            done.append(name)
    except OSError:
        pass
print(json.dumps(done))
"""
_ALLOWED: Final = "write in its own directory"
_FILES: Final = {
    "read another session's file",
    "change another session's file",
    "empty another session's file",
    "use another program's shared memory",
}
_OF_THE_MACHINE: Final = {
    "change the modes of the machine's devices",
    "change the modes of entries of /proc",
}
"""Open to root where commands cannot have mounts of their own."""
_BEYOND_LANDLOCK: Final = {
    "see that another session's file exists",
    "change the times of another session's file",
}
"""Landlock leaves these open, for whoever knows the path; bubblewrap does not."""


async def measure_isolation(launcher: CommandLauncher, bubblewrap: Bubblewrap | None = None) -> SelfTest:
    """Try attacks through the launcher, as any command could.

    They are first tried in bubblewrap, where there is one; the launcher keeps it if it holds.
    """
    if not (launcher.policy.landlock_abi or launcher.policy.has_seccomp):
        return SelfTest(IsolationLevel.NONE, ("this kernel has neither Landlock nor seccomp",))
    reason: str | None = "it is not installed"
    if bubblewrap is not None:
        launcher.bubblewrap = bubblewrap
        inside, open_ends = await _measure(launcher)
        if inside.level is not IsolationLevel.NONE and not open_ends:
            return replace(inside, no_bubblewrap_because=None)
        reason = "; ".join(inside.findings) or f"commands could {' and '.join(open_ends)}"
        launcher.bubblewrap = None
    outside, _ = await _measure(launcher)
    return replace(outside, no_bubblewrap_because=reason)


async def _measure(launcher: CommandLauncher) -> tuple[SelfTest, list[str]]:
    """The level as things are, and what is open besides and does not count for it."""
    try:
        succeeded = set(await _attack(launcher))
    except (IsolationError, OSError, ValueError) as error:
        return SelfTest(IsolationLevel.NONE, (f"the self-test failed: {error}",)), []
    if _ALLOWED not in succeeded:
        return SelfTest(IsolationLevel.NONE, ("commands cannot write in their own directory",)), []
    counted = succeeded - _BEYOND_LANDLOCK - {_ALLOWED}
    findings = tuple(f"a command could {attack}" for attack in sorted(counted))
    found = SelfTest(_level(counted, launcher.policy.landlock_abi), findings)
    return found, sorted(succeeded & _BEYOND_LANDLOCK)


def _level(succeeded: set[str], landlock_abi: int) -> IsolationLevel:
    if succeeded - _FILES - _OF_THE_MACHINE:
        return IsolationLevel.NONE
    # In bubblewrap few files are there, but those of /etc that are root's alone are.
    if succeeded & _FILES or not landlock_abi:
        return IsolationLevel.WEAK
    if landlock_abi >= SCOPE_ABI and not succeeded:
        return IsolationLevel.FULL
    return IsolationLevel.GOOD if landlock_abi >= TRUNCATE_ABI else IsolationLevel.PARTIAL


async def probe_networks(launcher: CommandLauncher, networks: Sequence[Network]) -> dict[Network, list[str]]:
    """Every known way past a network that got a command out of it, by network."""
    with (
        tempfile.TemporaryDirectory(prefix="stigmer-self-test-") as scene,
        _opened(Path(scene)) as directory,
        _servers(launcher.web.ports) as (tcp_port, udp_port),
    ):
        ports = (str(tcp_port), str(udp_port), "0")
        found = await asyncio.gather(
            *(_run(launcher, directory, NETWORK_PROBE, one, *ports, network=one) for one in networks)
        )
    ways: list[list[str]] = [each["done"] for each in found]
    return dict(zip(networks, ways, strict=True))


async def _attack(launcher: CommandLauncher) -> list[str]:
    """Names of the attacks that succeeded."""
    with (
        tempfile.TemporaryDirectory(prefix="stigmer-self-test-") as scene,
        _two_sessions(Path(scene)) as (attacker, victim),
        _another_process() as other,
        _shared_memory(launcher.policy) as memory,
    ):
        succeeded, by_network = await asyncio.gather(
            _run(launcher, attacker, _ATTACKS, str(os.getpid()), str(other), str(victim), "mine", memory),
            probe_networks(launcher, _networks(launcher)),
        )
    for network, ways in by_network.items():
        succeeded += [f"{way}, under `network: {network}`" for way in ways]
    return succeeded


def _networks(launcher: CommandLauncher) -> tuple[Network, ...]:
    """Those that commands can be given here; `web` is refused where ports cannot be held to."""
    if launcher.policy.landlock_abi >= PORTS_ABI or not launcher.policy.has_seccomp:
        return ("none", "web", "all")
    return ("none", "all")


async def _run(
    launcher: CommandLauncher, directory: int, program: str, *arguments: str, network: Network = "none"
) -> Any:
    """What a Python program prints as JSON when it is run as a command."""
    result = await launcher.run(
        [sys.executable, "-I", "-S", "-c", program, *arguments],
        directory=directory,
        environment={},
        timeout_seconds=SELF_TEST_SECONDS,
        network=network,
    )
    if result.exit_code != 0:
        raise ValueError(f"it ended with {result.exit_code}: {result.stderr[-200:]}")
    return json.loads(result.stdout)


@contextmanager
def _another_process() -> Generator[int]:
    """Pid of one that has a secret in its environment and no protection, as a person's shell has."""
    with subprocess.Popen(
        ["/bin/cat"], env={"SECRET": "stigmer-canary"}, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        yield process.pid


@contextmanager
def _shared_memory(policy: Policy) -> Generator[str]:
    """Path of some that is not a command's; of nothing, where all there is belongs to this container."""
    if policy.shared_memory != "own" or not Path(SHARED_MEMORY).is_dir():
        yield "/nowhere"
        return
    with tempfile.NamedTemporaryFile(prefix="stigmer-self-test-", dir=SHARED_MEMORY) as file:
        yield file.name


@contextmanager
def _servers(granted: Container[int]) -> Generator[tuple[int, int]]:
    """Ports of this machine where connections and datagrams are taken, by IPv6 too where there is one."""
    with ExitStack() as servers:
        tcp_port = _serve(servers, socket.SOCK_STREAM)
        while tcp_port in granted:
            tcp_port = _serve(servers, socket.SOCK_STREAM)
        yield tcp_port, _serve(servers, socket.SOCK_DGRAM)


def _serve(servers: ExitStack, kind: socket.SocketKind) -> int:
    """Take one free port of this machine; its number."""
    port = 0
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with suppress(OSError):  # one of the two may not be there
            server = servers.enter_context(socket.socket(family, kind))
            server.bind((address, port))
            port = server.getsockname()[1]
            if kind is socket.SOCK_STREAM:
                server.listen()
    return port


@contextmanager
def _two_sessions(scene: Path) -> Generator[tuple[int, Path]]:
    """The attacker's open directory, and a file in that of another session."""
    attacker, victim = scene / "attacker", scene / "victim"
    attacker.mkdir()
    victim.mkdir()
    (victim / "file").write_text("canary", encoding="utf-8")
    with _opened(attacker) as directory:
        yield directory, victim / "file"


@contextmanager
def _opened(path: Path) -> Generator[int]:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield directory
    finally:
        os.close(directory)
