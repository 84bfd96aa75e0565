"""`make demo` shows what it promises, and leaves nothing behind, also when it is interrupted."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
TIMEOUT_SECONDS = 300

pytestmark = [pytest.mark.xdist_group("examples"), pytest.mark.timeout(2 * TIMEOUT_SECONDS)]


def start_demo(folder: Path) -> subprocess.Popen[str]:
    """The demo with its state in `folder`."""
    return subprocess.Popen(
        [sys.executable, str(DEMO), str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process that works for the demo's stack."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("STIGMER_HOME") == str(folder / "home"):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_an_interrupted_demo_leaves_nothing_and_the_next_one_survives_its_runner(tmp_path: Path) -> None:
    interrupted = start_demo(tmp_path)
    assert interrupted.stdout is not None
    assert any("turn  1" in line for line in interrupted.stdout)
    assert processes_of(tmp_path)
    interrupted.send_signal(signal.SIGINT)
    interrupted.communicate(timeout=TIMEOUT_SECONDS)

    assert interrupted.returncode == 130
    assert processes_of(tmp_path) == []

    output, _ = start_demo(tmp_path).communicate(timeout=TIMEOUT_SECONDS)

    assert "$ kill -9" in output, output
    assert "attempt 1: turns 1 to 6\n" in output
    assert "attempt 2: turns 7 to 12\n" in output
    assert "12 turns with one model answer each, 12 tool calls, none twice" in output
    assert "Total revenue: **56,704.40 EUR**" in output
    assert processes_of(tmp_path) == []
