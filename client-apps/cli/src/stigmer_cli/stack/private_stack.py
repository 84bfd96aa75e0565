"""A local stack for one command: in a home of its own, on free ports, and gone when the command is."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from stigmer_cli.config import Configuration, Connection, load_configuration, unset_value
from stigmer_cli.config.stored_environment import stored_environment_file
from stigmer_cli.processes.ports import is_free
from stigmer_cli.stack.lifecycle import ensure_running, stop
from stigmer_cli.stack.runner_choice import Report
from stigmer_cli.stack.state import LOOPBACK, StackFiles, read_state

_ELSEWHERE = ("server.endpoint", "temporal.address", "server.port", "temporal.port", "runner.healthPort")
"""Settings that say where another stack is."""
_PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to outgoing connections, which could come in between."""
_VARIABLES_ELSEWHERE = ("STIGMER_BACKEND_ENDPOINT", "STIGMER_TOKEN", "TEMPORAL_SERVICE_ADDRESS")


@contextmanager
def private_stack(
    configuration: Configuration, environ: Mapping[str, str], *, report: Report
) -> Generator[tuple[Configuration, Connection]]:
    """A stack with the person's settings of models and runner, but nothing of what another one holds.

    It ends with the block, and also where this process is ended or killed in it.

    Raises:
        EnvironmentNotReady: as `start`.
    """
    home = Path(os.path.realpath(tempfile.mkdtemp(prefix="stigmer-private-")))
    try:
        own = _configuration(configuration, environ, home)
        before = signal.signal(signal.SIGTERM, _end)
        try:
            connection = ensure_running(own, report=report)
            with _ended_with_this_process(own):
                yield own, connection
        finally:
            signal.signal(signal.SIGTERM, before)
            stop(own)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _configuration(configuration: Configuration, environ: Mapping[str, str], home: Path) -> Configuration:
    """As the person has configured it, but for where things are."""
    for file in (configuration.config_file, stored_environment_file(configuration.home)):
        if file.is_file():
            shutil.copyfile(file, home / file.name)
            (home / file.name).chmod(0o600)
    ports = _free_ports(3)
    variables = {name: value for name, value in environ.items() if name not in _VARIABLES_ELSEWHERE} | {
        "STIGMER_HOME": str(home),
        "STIGMER_TEMPORAL_PORT": str(ports[0]),
        "STIGMER_PORT": str(ports[1]),
        "STIGMER_HEALTH_PORT": str(ports[2]),
    }
    own = load_configuration(variables)
    for key in _ELSEWHERE:
        unset_value(own, key)
    return load_configuration(variables)


def _free_ports(count: int) -> list[int]:
    ports = set[int]()
    while len(ports) < count:
        port = secrets.choice(_PORTS)
        if is_free(LOOPBACK, port):
            ports.add(port)
    return list(ports)


@contextmanager
def _ended_with_this_process(configuration: Configuration) -> Generator[None]:
    """Have the stack ended by another process where this one is killed."""
    state = read_state(StackFiles(configuration).state)
    if state is None:
        yield
        return
    guard = subprocess.Popen(
        [sys.executable, "-m", "stigmer_cli.processes.guard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert guard.stdin is not None
    supervisor = state.supervisor
    guard.stdin.write(f"+ {supervisor.pid} {supervisor.mark}\n")
    guard.stdin.flush()
    try:
        yield
    finally:
        guard.stdin.write(f"- {supervisor.pid}\n")
        guard.stdin.close()
        guard.wait()


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM, as an exception that lets the stack be ended."""
    raise SystemExit(128 + number)
