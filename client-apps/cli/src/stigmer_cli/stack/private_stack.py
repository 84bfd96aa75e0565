"""A local stack for one command: in a home of its own, on free ports, and gone when the command is."""

import json
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from stigmer_cli.config import (
    Configuration,
    Connection,
    load_configuration,
    prepare_home,
    replace_file,
    settings_by_field,
    unset_value,
)
from stigmer_cli.config.stored_environment import read_stored_environment, stored_environment_file
from stigmer_cli.processes.identity import identify
from stigmer_cli.processes.ports import is_free
from stigmer_cli.runner.choice import Report
from stigmer_cli.stack.lifecycle import ensure_running, stop
from stigmer_cli.stack.state import LOOPBACK, StackFiles

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
        owner = identify(os.getpid())
        assert owner is not None, "this process runs"
        prepare_home(own)
        StackFiles(own).note_owner(owner)  # before it starts: from its first moment on it ends with this one
        try:
            yield own, ensure_running(own, report=report)
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


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM, as an exception that lets the stack be ended."""
    raise SystemExit(128 + number)
