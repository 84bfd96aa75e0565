"""What a container's stand-in process does when it is told to let the container finish. Needs no engine."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ATTENDANT = """
import contextlib, sys, threading
from pathlib import Path
from types import SimpleNamespace
from stigmer_cli.config import load_configuration
from stigmer_cli.containers.container import ExitState
from stigmer_cli.containers.specs import ContainerSpec
from stigmer_cli.runner.attendant import Attendant, Wanted
from stigmer_cli.runner.plan import HOME_LABEL, PLACEMENT_LABEL, PLAN_LABEL

home = Path(sys.argv[1])
over = threading.Event()

def say(word):
    print(word, flush=True)

class Logs:
    def pieces(self):
        return []

class Standing:
    name = "runner"
    def start(self):
        threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
        say("started")
        return self
    def wait(self):
        over.wait()
        return ExitState(0, False, "")
    def send_signal(self, name):
        say(name)
    def stop(self, seconds):
        say("stop")
        over.set()
    def remove(self):
        say("remove")
    @contextlib.contextmanager
    def logs(self, **_):
        yield Logs()

engine = SimpleNamespace(find_containers=lambda labels: [], create=lambda spec: Standing())
labels = {HOME_LABEL: "h", PLACEMENT_LABEL: "", PLAN_LABEL: "p"}
wanted = Wanted(ContainerSpec(name="runner", image="image", labels=labels), home / "proof")
plan = SimpleNamespace(traits=SimpleNamespace(kind=SimpleNamespace(value="docker")), memory_bytes=0)
configuration = load_configuration({"STIGMER_HOME": str(home)})
sys.exit(Attendant(engine, wanted, plan, configuration).run())
"""


@pytest.fixture
def attendant(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """One that has started its container, which ends when a line is written to the process."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "runner-token").write_text("t\n", encoding="ascii")
    with subprocess.Popen(
        [sys.executable, "-c", ATTENDANT, str(tmp_path)],
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert _next_word(process) == "started"
            yield process
        finally:
            process.kill()


def _next_word(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _end_container(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("end\n")
    process.stdin.flush()


def test_a_container_that_is_to_finish_is_told_so_and_removed_when_it_has(
    attendant: "subprocess.Popen[str]",
) -> None:
    attendant.send_signal(signal.SIGUSR1)
    assert _next_word(attendant) == "SIGUSR1"
    _end_container(attendant)
    assert _next_word(attendant) == "remove"
    assert attendant.wait(120) == 0


def test_one_that_does_not_finish_in_time_is_stopped(attendant: "subprocess.Popen[str]") -> None:
    attendant.send_signal(signal.SIGUSR1)
    assert _next_word(attendant) == "SIGUSR1"
    attendant.send_signal(signal.SIGTERM)
    assert [_next_word(attendant), _next_word(attendant)] == ["stop", "remove"]
    assert attendant.wait(120) == 0
