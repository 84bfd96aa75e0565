"""A private STIGMER_HOME for tests of the local stack, used through the real `stigmer` command.

Server and runner are stand-ins that misbehave on order, or the real programs; Temporal is the real one.
"""

import contextlib
import functools
import json
import os
import pty
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import psutil

from stigmer_cli.config import load_configuration
from stigmer_cli.errors import ConfigurationError
from stigmer_cli.stack.status import stack_status

STAND_INS = Path(__file__).parent / "stack_stand_ins"
WAIT_SECONDS = 120.0
"""Bounds a test that hangs; a busy machine may take long for what takes a second elsewhere."""
COMMAND_SECONDS = 200.0
"""Longer than the longest command takes: a start gives up after two minutes."""


def free_port() -> int:
    """A port that nobody listens on, below those that the kernel gives to outgoing connections."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = WAIT_SECONDS) -> None:
    """Waits for a condition, with a bound."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


@dataclass
class StackHome:
    """One STIGMER_HOME and the commands that use it."""

    path: Path
    environment: dict[str, str]
    ports: dict[str, int] = field(default_factory=dict[str, int])
    prefix: tuple[str, ...] = ()
    """Before each command, such as what makes another person of its caller."""

    def stigmer(
        self,
        *arguments: str,
        timeout_seconds: float = COMMAND_SECONDS,
        variables: Mapping[str, str] | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Runs the command to its end."""
        return subprocess.run(
            [*self.prefix, sys.executable, "-m", "stigmer_cli", *arguments],
            cwd=self.path.parent if self.prefix else None,
            env=self.environment | dict(variables or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )

    def stigmer_on_terminal(self, *arguments: str, typed: str | None = None) -> tuple[int, str]:
        """Runs the command with its errors on a terminal; answers the exit code and the text of it.

        `typed`: its input is the terminal, too, where a person has typed this ahead.
        """
        controller, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "stigmer_cli", *arguments],
            env=self.environment | {"TERM": "xterm", "COLUMNS": "120"},
            stdin=subprocess.DEVNULL if typed is None else terminal,
            stdout=subprocess.DEVNULL,
            stderr=terminal,
        )
        os.close(terminal)
        os.write(controller, (typed or "").encode())
        shown = b""
        try:
            while piece := os.read(controller, 65536):
                shown += piece
        except OSError:  # Linux says so where nobody holds the terminal any more
            pass
        os.close(controller)
        return process.wait(COMMAND_SECONDS), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())

    def start(self, **variables: str) -> None:
        """Starts the stack, and expects it to be ready."""
        completed = self.stigmer("server", "start", variables=variables)
        assert completed.returncode == 0, completed.stderr

    def status(self) -> dict[str, Any]:
        """What `status --json` says; asked in this process, since tests ask often."""
        return asdict(stack_status(load_configuration(self.environment)))

    def component(self, name: str) -> dict[str, Any]:
        """What `status --json` says of one component."""
        return next(entry for entry in self.status()["components"] if entry["name"] == name)

    def order(self, order: str) -> None:
        """Tells a stand-in to misbehave."""
        (self.path / "orders").mkdir(parents=True, exist_ok=True)
        (self.path / "orders" / order).touch()

    def withdraw(self, order: str) -> None:
        """Tells a stand-in to behave again."""
        (self.path / "orders" / order).unlink()

    def seen(self, name: str) -> dict[str, Any]:
        """What a stand-in was started with."""
        return cast("dict[str, Any]", json.loads((self.path / "seen" / f"{name}.json").read_text("utf-8")))

    def processes(self) -> list[psutil.Process]:
        """Every process of this stack, found without its help where possible: each has the home among its
        variables. Into those that hold secrets only root can look; others are told of them by the stack."""
        found: list[psutil.Process] = []
        told = functools.cache(self._told)
        for process in psutil.process_iter():
            try:
                is_running = process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid()
                if is_running and self._is_own(process, told):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def command_lines(self) -> dict[int, list[str]]:
        """What each process of this stack was started with, by its id, but of one that ends meanwhile."""
        found: dict[int, list[str]] = {}
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                found[process.pid] = process.cmdline()
        return found

    def _is_own(self, process: psutil.Process, told: Callable[[], set[int]]) -> bool:
        try:
            mentions = [*process.cmdline(), *process.environ().values(), process.cwd()]
        except (psutil.AccessDenied, OSError):  # OSError: it works in a directory deeper than a path is long
            return process.pid in told() or process.ppid() in told()
        return any(str(self.path) in text for text in mentions)

    def _told(self) -> set[int]:
        """The processes that the stack says are its own; none where its configuration cannot be read."""
        try:
            status = self.status()
        except ConfigurationError:
            return set()
        return {status["supervisor_pid"], *(component["pid"] for component in status["components"])} - {None}


def make_stack_home(path: Path, *, own_temporal: bool, real_programs: bool = False) -> StackHome:
    """A home that does not exist yet, on ports of its own. Its end is the caller's to see to."""
    ports = {name: free_port() for name in ("temporal", "server", "runner")}
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(path.parent),
        "STIGMER_HOME": str(path),
        "STIGMER_TEMPORAL_PORT": str(ports["temporal"]),
        "STIGMER_PORT": str(ports["server"]),
        "STIGMER_HEALTH_PORT": str(ports["runner"]),
        "STIGMER_ENGINE": "none",  # whatever engine this machine has
        "OLLAMA_BASE_URL": f"http://127.0.0.1:{free_port()}",
    }
    if not real_programs:
        environment["PYTHONPATH"] = str(STAND_INS)
    if not own_temporal:
        # Nobody is there, and no stand-in cares: it saves seconds where Temporal plays no part.
        environment["TEMPORAL_SERVICE_ADDRESS"] = f"127.0.0.1:{ports['temporal']}"
    return StackHome(path, environment, ports)


def end_everything(home: StackHome) -> None:
    """Kills what is left of a stack."""
    for process in home.processes():
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    wait_until(lambda: not home.processes(), "the processes of the test are gone")
