"""How well commands are isolated on this machine, found by trying: attacks as commands, run like any other.

Says what that means for commands to come. What holds a command in is `confinement`'s matter.
"""

import json
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic_ai.workspaces import WorkspaceError

from agent_runner.confinement.landlock import SCOPE_ABI, TRUNCATE_ABI
from agent_runner.settings import SandboxSetting
from agent_runner.workspace.enclosure import Bubblewrap
from agent_runner.workspace.launcher import CommandLauncher

logger = logging.getLogger(__name__)

SELF_TEST_SECONDS: Final = 20.0


class IsolationLevel(StrEnum):
    """From best to worst."""

    FULL = "full"
    """Nothing that was tried got out (Landlock 6, Linux 6.12)."""
    GOOD = "good"
    """The same, but sessions can signal each other's commands (Landlock 3, Linux 6.2)."""
    PARTIAL = "partial"
    """The same on Landlock 1, Linux 5.13: the rest is done by the system call filter."""
    WEAK = "weak"
    """No network and no look into other processes, but every file of the user is open."""
    NONE = "none"
    """Commands can do what the user can who runs the runner."""


ENOUGH: Final = (IsolationLevel.FULL, IsolationLevel.GOOD, IsolationLevel.PARTIAL)


@dataclass(frozen=True)
class Isolation:
    """The result of the self-test, and what was asked for."""

    level: IsolationLevel
    setting: SandboxSetting
    findings: tuple[str, ...] = ()
    """What commands can do that they should not, or why that could not be found out."""
    not_enclosed_because: str | None = "it was not tried"
    """Why bubblewrap does not enclose commands, besides; None: it does."""

    @property
    def is_enough(self) -> bool:
        """Whether sessions are isolated from each other and from the person's files."""
        return self.level in ENOUGH

    @property
    def refusal(self) -> str | None:
        """Why commands are not run, and what to do about it; None: they are."""
        if self.setting != "require" or self.is_enough:
            return None
        return (
            "commands are refused: STIGMER_SANDBOX is `require`, and isolation on this machine is "
            f"`{self.level}` ({self._because()}). Run the runner on Linux 5.13 or newer with Landlock turned "
            "on, or accept the risk with STIGMER_SANDBOX=warn"
        )

    @property
    def warning(self) -> str | None:
        """What a person has to know about each command; None: nothing."""
        if self.is_enough:
            return None
        if self.setting == "off":
            return "Shell commands run WITHOUT isolation, because STIGMER_SANDBOX is `off`."
        return (
            f"Shell commands run WITHOUT sufficient isolation on this machine (level `{self.level}`: "
            f"{self._because()}). They can read your files and keys. Use the container image, or set "
            "STIGMER_SANDBOX=require to refuse commands."
        )

    def log(self) -> None:
        """Say it in one line, loudly where something has to be known."""
        enclosed = "in bubblewrap"
        if self.not_enclosed_because is not None:
            enclosed = f"without bubblewrap ({self.not_enclosed_because})"
        if self.warning is None:
            logger.info("isolation of commands: %s, %s", self.level, enclosed)
        else:
            logger.warning(
                "isolation of commands: %s, %s. %s", self.level, enclosed, self.refusal or self.warning
            )

    def to_json(self) -> dict[str, Any]:
        """As the contract's `IsolationState`."""
        return {
            "level": self.level.value,
            "setting": self.setting,
            "findings": list(self.findings),
            "enclosed": self.not_enclosed_because is None,
            "not_enclosed_because": self.not_enclosed_because,
        }

    def _because(self) -> str:
        return "; ".join(self.findings) or "no reason found"


_ATTACKS = """
import json, os, socket, sys
runner, port, victim, mine = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
def read_environments():
    for pid in {runner, 1}:
        try:
            return bool(open(f"/proc/{pid}/environ", "rb").read())
        except OSError:
            pass
    return False
def connect():
    socket.create_connection(("127.0.0.1", port), 2)
attacks = {
    "read another session's file": lambda: open(victim).read(),
    "change another session's file": lambda: open(victim, "a").write("x"),
    "empty another session's file": lambda: os.close(os.open(victim, os.O_RDONLY | os.O_TRUNC)),
    "read the runner's environment": read_environments,
    "signal the runner": lambda: os.kill(runner, 0),
    "connect to a port of this machine": connect,
    "see that another session's file exists": lambda: os.stat(victim),
    "change the times of another session's file": lambda: os.utime(victim),
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
}
_UNCONFINED: Final = {
    "see that another session's file exists",
    "change the times of another session's file",
}
"""Landlock leaves these open, for whoever knows the path; an enclosure does not."""


async def measure_isolation(
    launcher: CommandLauncher, setting: SandboxSetting, bubblewrap: Bubblewrap | None = None
) -> Isolation:
    """Try attacks through the launcher, as commands that every session could run.

    They are first tried enclosed, where there is a bubblewrap; the launcher keeps it if it holds.
    """
    if setting == "off":
        return Isolation(IsolationLevel.NONE, setting, ("it was turned off",))
    if not (launcher.policy.landlock_abi or launcher.policy.has_seccomp):
        return Isolation(IsolationLevel.NONE, setting, ("this kernel has neither Landlock nor seccomp",))
    reason: str | None = "it is not installed"
    if bubblewrap is not None:
        launcher.bubblewrap = bubblewrap
        enclosed, open_ends = await _measure(launcher, setting)
        if enclosed.level is not IsolationLevel.NONE and not open_ends:
            return replace(enclosed, not_enclosed_because=None)
        reason = "; ".join(enclosed.findings) or f"commands could {' and '.join(open_ends)}"
        launcher.bubblewrap = None
    isolation, _ = await _measure(launcher, setting)
    return replace(isolation, not_enclosed_because=reason)


async def _measure(launcher: CommandLauncher, setting: SandboxSetting) -> tuple[Isolation, list[str]]:
    """The level as things are, and what is open besides and does not count for it."""
    try:
        succeeded = set(await _attack(launcher))
    except (WorkspaceError, OSError, ValueError) as error:
        return Isolation(IsolationLevel.NONE, setting, (f"the self-test failed: {error}",)), []
    if _ALLOWED not in succeeded:
        return Isolation(IsolationLevel.NONE, setting, ("commands cannot write in their own directory",)), []
    counted = succeeded - _UNCONFINED - {_ALLOWED}
    findings = tuple(f"a command could {attack}" for attack in sorted(counted))
    isolation = Isolation(_level(counted, launcher.policy.landlock_abi), setting, findings)
    return isolation, sorted(succeeded & _UNCONFINED)


def _level(succeeded: set[str], landlock_abi: int) -> IsolationLevel:
    if succeeded - _FILES:
        return IsolationLevel.NONE
    if succeeded:
        return IsolationLevel.WEAK
    if landlock_abi >= SCOPE_ABI:
        return IsolationLevel.FULL
    return IsolationLevel.GOOD if landlock_abi >= TRUNCATE_ABI else IsolationLevel.PARTIAL


async def _attack(launcher: CommandLauncher) -> list[str]:
    """Names of the attacks that succeeded."""
    with (
        tempfile.TemporaryDirectory(prefix="stigmer-self-test-") as scene,
        socket.create_server(("127.0.0.1", 0)) as listener,
        _two_sessions(Path(scene)) as (attacker, victim),
    ):
        port = listener.getsockname()[1]
        result = await launcher.run(
            [sys.executable, "-I", "-S", "-c", _ATTACKS, str(os.getpid()), str(port), str(victim), "mine"],
            directory=attacker,
            environment={},
            timeout_seconds=SELF_TEST_SECONDS,
        )
    if result.exit_code != 0:
        raise ValueError(f"it ended with {result.exit_code}: {result.stderr[-200:]}")
    attacks: list[str] = json.loads(result.stdout)
    return attacks


@contextmanager
def _two_sessions(scene: Path) -> Generator[tuple[int, Path]]:
    """The attacker's open directory, and a file in that of another session."""
    attacker, victim = scene / "attacker", scene / "victim"
    attacker.mkdir()
    victim.mkdir()
    (victim / "file").write_text("canary", encoding="utf-8")
    directory = os.open(attacker, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield directory, victim / "file"
    finally:
        os.close(directory)
