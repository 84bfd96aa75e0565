"""The processes of a chaos run, one by one: start, kill and stop. Who keeps them running is `cluster`."""

import contextlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import psutil

from chaos.clocks import Clock
from running_stack import plain_environment, wait_until_ready
from stigmer_contract.runner_names import new_runner_name

STOP_TIMEOUT_SECONDS: Final = 30.0
READY_TIMEOUT_SECONDS: Final = 180.0
"""Five programs start at once, each runner with a test of its isolation; 12 s on an idle machine."""


class Program(Protocol):
    """One of the programs."""

    def start(self) -> None:
        """Start it."""
        ...

    def kill(self) -> None:
        """kill -9."""
        ...

    def stop(self) -> None:
        """End it in good order."""
        ...

    @property
    def pid(self) -> int | None:
        """While it runs."""
        ...


class OwnProgram:
    """A server or a runner: a process of its own, whose clock can be moved."""

    def __init__(
        self, name: str, home: Path, clock: Clock, arguments: list[str], environment: Mapping[str, str]
    ) -> None:
        """Starts nothing yet."""
        self.name = name
        self.clock = clock
        self._home = home
        self._arguments = arguments
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """While it runs."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def start(self) -> None:
        """Start it; it becomes ready by itself."""
        log = self._home / "logs" / f"{self.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._arguments,
                env=plain_environment() | self._environment | self.clock.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._home,
                start_new_session=True,
            )

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_SECONDS)

    def stop(self) -> None:
        """End it in good order, or by force where it takes too long."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def change(self, environment: Mapping[str, str]) -> None:
        """Set variables for its next life."""
        self._environment |= environment

    def wait_until_ready(self, url: str) -> None:
        """Wait until `url` answers 200."""
        assert self._process is not None
        wait_until_ready(url, self._process, timeout_seconds=READY_TIMEOUT_SECONDS)


class Runner(OwnProgram):
    """A runner, which has another name in each life; whoever knows its proof may say that it has ended."""

    def __init__(self, name: str, home: Path, clock: Clock, environment: Mapping[str, str]) -> None:
        """Starts nothing yet."""
        super().__init__(name, home, clock, [sys.executable, "-m", "agent_runner"], environment)
        self.identity = ""
        self.proof = ""

    def start(self) -> None:
        """Start it under a new name."""
        self.identity, self.proof = new_runner_name(self.name)
        self.change({"STIGMER_RUNNER_NAME": self.identity})
        super().start()


def is_gone(program: Program) -> bool:
    """Whether its process has ended, or never was."""
    pid = program.pid
    if pid is None:
        return True
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True
