"""What a stop does with supervisors that do not do as they are told, and in which order it tells them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

from stack_home import COMMAND_SECONDS, wait_until
from stigmer_cli.config import Configuration, load_configuration
from stigmer_cli.processes.identity import identify
from stigmer_cli.stack import lifecycle
from stigmer_cli.stack.local_components import local_components
from stigmer_cli.stack.locks import is_locked
from stigmer_cli.stack.state import RUNNER, SERVER, StackFiles, StackState, write_json, write_state
from stigmer_cli.stack.supervisor import STOP_SECONDS

DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN); begin(); time.sleep(1000)"
TELLS = """
def end(*_):
    (home / "told").touch()
    sys.exit()

signal.signal(signal.SIGTERM, end)
begin()
time.sleep(1000)
"""
ENDS_AFTER_THE_OTHER = """
def end(*_):
    while not (home / "told").exists():
        time.sleep(0.02)
    sys.exit()

signal.signal(signal.SIGTERM, end)
begin()
time.sleep(1000)
"""
_BEGINNING = """
import fcntl, signal, sys, time
from pathlib import Path

home = Path(sys.argv[1])

def begin():
    if len(sys.argv) > 2:
        fcntl.flock(lock := open(sys.argv[2], "w"), fcntl.LOCK_EX)
        globals()["kept"] = lock
    print("begun", flush=True)

"""


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    configuration = load_configuration({"STIGMER_HOME": str(tmp_path), "STIGMER_ENGINE": "none"})
    configuration.run_directory.mkdir()
    return configuration


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(processes: ExitStack, what: str, home: Path, lock: Path | None = None) -> "subprocess.Popen[str]":
    """A supervisor that only hears signals, once it does."""
    arguments = [sys.executable, "-c", _BEGINNING + what, str(home), *([] if lock is None else [str(lock)])]
    process = processes.enter_context(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True))
    processes.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def record(files: StackFiles, process: "subprocess.Popen[str]") -> None:
    """Writes down that the process is the supervisor."""
    identity = identify(process.pid)
    assert identity is not None
    write_state(files.state, StackState(identity, "0", "", ()))


def test_a_supervisor_that_had_to_be_killed_is_gone_when_the_stop_returns(
    configuration: Configuration, processes: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "STOP_TIMEOUT_SECONDS", 0.1)
    files = StackFiles(configuration)
    record(files, start(processes, DEAF, configuration.home, files.supervisor_lock))

    assert lifecycle.stop(configuration)

    assert not is_locked(files.supervisor_lock)
    assert not files.state.exists(), "its leftovers were not looked for"


def test_earlier_runners_are_told_to_end_while_the_server_is_there(
    configuration: Configuration, processes: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "STOP_TIMEOUT_SECONDS", 60.0)
    files = StackFiles(configuration)
    supervisor = start(processes, ENDS_AFTER_THE_OTHER, configuration.home, files.supervisor_lock)
    record(files, supervisor)
    earlier = identify(start(processes, TELLS, configuration.home).pid)
    assert earlier is not None
    write_json(files.draining(earlier), asdict(earlier))

    assert lifecycle.stop(configuration)

    assert supervisor.wait(COMMAND_SECONDS) == 0
    wait_until(lambda: not files.drainings(), "the earlier one has ended")


def test_a_stop_takes_ten_seconds_at_most(configuration: Configuration) -> None:
    stop_seconds = {one.name: one.stop_seconds for one in local_components(configuration)}
    assert stop_seconds[RUNNER] + stop_seconds[SERVER] < STOP_SECONDS
    assert STOP_SECONDS < lifecycle.STOP_TIMEOUT_SECONDS < 10
