"""A local stack for one command: in a home of its own, on free ports, and gone when the command is."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from stigmer_cli.config import (
    Configuration,
    Connection,
    load_configuration,
    replace_file,
    settings_by_field,
    unset_value,
)
from stigmer_cli.config.stored_environment import read_stored_environment, stored_environment_file
from stigmer_cli.processes.guard import GUARD_COMMAND, environment_of_guard
from stigmer_cli.processes.identity import ProcessIdentity
from stigmer_cli.processes.ports import is_free
from stigmer_cli.stack.lifecycle import ensure_running, stop
from stigmer_cli.stack.runner_choice import Report
from stigmer_cli.stack.state import LOOPBACK, StackFiles, read_state

_ELSEWHERE = (
    "server.endpoint",
    "server.token",
    "server.databaseUrl",
    "server.port",
    "temporal.address",
    "temporal.port",
    "temporal.uiPort",
    "runner.healthPort",
)
"""Settings that say where another stack is, or what it keeps its data in."""
_PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to outgoing connections, which could come in between."""


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
        with _ended_with_this_process() as watch:
            try:
                connection = ensure_running(own, report=report)
                state = read_state(StackFiles(own).state)
                if state is not None:
                    watch(state.supervisor)
                yield own, connection
            finally:
                signal.signal(signal.SIGTERM, before)
                stop(own)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _configuration(configuration: Configuration, environ: Mapping[str, str], home: Path) -> Configuration:
    """As the person has configured it, but for where things are."""
    if configuration.config_file.is_file():
        shutil.copyfile(configuration.config_file, home / configuration.config_file.name)
        (home / configuration.config_file.name).chmod(0o600)
    if stored := _without_elsewhere(read_stored_environment(configuration.home)):
        replace_file(stored_environment_file(home), json.dumps(stored))
    ports = _free_ports(3)
    variables = _without_elsewhere(environ) | {
        "STIGMER_HOME": str(home),
        "STIGMER_TEMPORAL_PORT": str(ports[0]),
        "STIGMER_PORT": str(ports[1]),
        "STIGMER_HEALTH_PORT": str(ports[2]),
    }
    own = load_configuration(variables)
    for key in _ELSEWHERE:
        unset_value(own, key)
    return load_configuration(variables)


def _without_elsewhere(environ: Mapping[str, str]) -> dict[str, str]:
    elsewhere = {each.variable for each in settings_by_field().values() if each.key in _ELSEWHERE}
    return {name: value for name, value in environ.items() if name.removesuffix("_FILE") not in elsewhere}


def _free_ports(count: int) -> list[int]:
    ports = set[int]()
    while len(ports) < count:
        port = secrets.choice(_PORTS)
        if is_free(LOOPBACK, port):
            ports.add(port)
    return list(ports)


@contextmanager
def _ended_with_this_process() -> Generator[Callable[[ProcessIdentity], None]]:
    """Gives what has a process ended by another one where this one is killed, or leaves it behind."""
    guard = subprocess.Popen(
        GUARD_COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env=environment_of_guard(os.environ),
    )
    told = guard.stdin
    assert told is not None

    def watch(process: ProcessIdentity) -> None:
        told.write(f"+ {process.pid} {process.mark}\n")
        told.flush()

    try:
        yield watch
    finally:
        told.close()
        guard.wait()


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM, as an exception that lets the stack be ended."""
    raise SystemExit(128 + number)
