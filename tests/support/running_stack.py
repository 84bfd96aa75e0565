"""A whole stack for tests: Temporal, stigmer-server and runners as processes, in a home of its own.

Starts the processes directly, without the supervisor, so that a test can kill and start each of them.
"""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx

from temporal_server import TemporalServer, free_port

LOOPBACK = "127.0.0.1"
READY_TIMEOUT_SECONDS = 120.0
"""Of a busy machine; an idle one takes some seconds."""
STOP_TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 0.05

_OURS = ("STIGMER_", "TEMPORAL_", "OTEL_", "OPENAI_", "ANTHROPIC_", "OLLAMA_")
"""What a person's environment may say to Stigmer; none of it reaches a test's stack."""


@dataclass(frozen=True)
class RunnerProcess:
    """One running agent-runner."""

    name: str
    health_port: int
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid


class RunningStack:
    """Temporal, a server and any number of runners. As a context manager: all of it, with one runner."""

    def __init__(
        self,
        home: Path,
        *,
        server_environment: Mapping[str, str] | None = None,
        runner_environment: Mapping[str, str] | None = None,
        temporal: TemporalServer | None = None,
        server_port: int | None = None,
    ) -> None:
        """Starts nothing yet. `home` gets the database, Temporal's file, workspaces and logs."""
        self.home = home
        self.token = secrets.token_hex(16)
        self.runner_token = secrets.token_hex(16)
        self.server_port = server_port or free_port()
        self.temporal = temporal or TemporalServer(home / "temporal.db")
        self._server_environment = dict(server_environment or {})
        self._runner_environment = dict(runner_environment or {})
        self._server: subprocess.Popen[bytes] | None = None
        self._runners: list[RunnerProcess] = []
        self.client = httpx.Client(
            base_url=self.endpoint, headers={"Authorization": f"Bearer {self.token}"}, timeout=60
        )

    @property
    def endpoint(self) -> str:
        """Base URL of the server."""
        return f"http://{LOOPBACK}:{self.server_port}"

    @property
    def workspace_root(self) -> Path:
        """Where sessions get their directories."""
        return self.home / "data" / "workspace"

    @property
    def server_pid(self) -> int:
        """Of the newest server."""
        assert self._server is not None
        return self._server.pid

    @property
    def runners(self) -> list[RunnerProcess]:
        """All runners that were started, the newest last; dead ones too."""
        return list(self._runners)

    @property
    def environment(self) -> dict[str, str]:
        """For `stigmer`: it finds this stack, and starts none."""
        home = self.home / "command-line"
        return plain_environment() | {
            "STIGMER_HOME": str(home),
            "STIGMER_BACKEND_ENDPOINT": self.endpoint,
            "STIGMER_TOKEN": self.token,
            "NO_COLOR": "1",
        }

    # --- parts --------------------------------------------------------------------------------

    def start_temporal(self) -> None:
        """Start Temporal, on its old state if it ran before, and wait until it answers."""
        self.temporal.start()

    def kill_temporal(self) -> None:
        """kill -9."""
        self.temporal.kill()

    def start_server(self, *, wait: bool = True) -> None:
        """Start the server, and wait until it is ready: it needs Temporal for that."""
        environment = {
            "STIGMER_HOME": str(self.home),
            "STIGMER_PORT": str(self.server_port),
            "STIGMER_TOKEN": self.token,
            "STIGMER_RUNNER_TOKEN": self.runner_token,
            "TEMPORAL_SERVICE_ADDRESS": self.temporal.address,
        }
        arguments = [sys.executable, "-m", "stigmer_server"]
        self._server = self._spawn("server", arguments, environment | self._server_environment)
        if wait:
            wait_until_ready(f"{self.endpoint}/readyz", self._server)

    def kill_server(self) -> None:
        """kill -9."""
        _kill(self._server)

    def start_runner(
        self, name: str = "runner", *, wait: bool = True, environment: Mapping[str, str] | None = None
    ) -> RunnerProcess:
        """Start a runner, and wait until it polls. `name` names its log file. `environment` wins."""
        health_port = free_port()
        own = {
            "MODE": "local",
            "TEMPORAL_SERVICE_ADDRESS": self.temporal.address,
            "STIGMER_BACKEND_ENDPOINT": self.endpoint,
            "STIGMER_TOKEN": self.runner_token,
            "SANDBOX_ROOT_DIR": str(self.workspace_root),
            "STIGMER_HEALTH_PORT": str(health_port),
        }
        arguments = [sys.executable, "-m", "agent_runner"]
        process = self._spawn(name, arguments, own | self._runner_environment | dict(environment or {}))
        runner = RunnerProcess(name, health_port, process)
        self._runners.append(runner)
        if wait:
            wait_until_ready(f"http://{LOOPBACK}:{health_port}/readyz", process)
        return runner

    def kill_runner(self, runner: RunnerProcess) -> None:
        """kill -9."""
        _kill(runner.process)

    def log_of(self, name: str) -> str:
        """What `server` or a runner has said so far."""
        return (self.home / "logs" / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    # --- the whole ----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self.start_temporal()
            # Both wait for Temporal, and the runner for the server, by themselves: start them side by side.
            self.start_server(wait=False)
            runner = self.start_runner(wait=False)
            assert self._server is not None
            wait_until_ready(f"{self.endpoint}/readyz", self._server)
            wait_until_ready(f"http://{LOOPBACK}:{runner.health_port}/readyz", runner.process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process, in good order where possible."""
        self.client.close()
        for process in (*(runner.process for runner in self._runners), self._server):
            if process is not None and process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_TIMEOUT_SECONDS)
                except subprocess.TimeoutExpired:
                    _kill(process)
        self.temporal.stop()

    def _spawn(self, name: str, arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        log = self.home / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return subprocess.Popen(
                arguments,
                env=plain_environment() | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                start_new_session=True,
            )


def plain_environment() -> dict[str, str]:
    """The environment of the tests, without what it may say to Stigmer."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


def wait_until_ready(
    url: str, process: subprocess.Popen[bytes], *, timeout_seconds: float = READY_TIMEOUT_SECONDS
) -> None:
    """Wait until `/readyz` answers 200.

    Raises:
        TimeoutError: it does not in time; says what it answered last.
        ChildProcessError: the process has ended.
    """
    deadline = time.monotonic() + timeout_seconds
    last = "no answer"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ChildProcessError(f"{process.args!r} ended with exit code {process.returncode}")
        try:
            answer = httpx.get(url, timeout=20)
        except httpx.TransportError as error:
            last = f"no answer ({type(error).__name__})"
        else:
            if answer.is_success:
                return
            last = answer.text
        time.sleep(POLL_SECONDS)
    raise TimeoutError(f"{url} was not ready within {timeout_seconds:g} s: {last}")


def _kill(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.kill()
        process.wait(STOP_TIMEOUT_SECONDS)
