"""When a process counts as hung: silence on a clock, while whoever listens runs itself."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass

import pytest

from stack_home import wait_until
from stigmer_cli.stack.hang_watch import HangWatch, Pulse, is_stopped, take_pulse


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> HangWatch:
    return HangWatch(30, clock)


def looks(watch: HangWatch, clock: Clock, pulse: Pulse, count: int) -> list[bool]:
    """Look so often, three seconds each: a question that waits for two, and a pause."""
    found: list[bool] = []
    for _ in range(count):
        asked_at = clock.now
        clock.now += 2
        found.append(watch.look(pulse, asked_at))
        clock.now += 1
    return found


def test_half_a_minute_without_an_answer_is_a_hang(watch: HangWatch, clock: Clock) -> None:
    found = looks(watch, clock, Pulse.SILENT, 12)
    assert found == [False] * 10 + [True, True]


@pytest.mark.parametrize("pulse", [Pulse.ANSWERED, Pulse.STOPPED])
def test_one_answer_or_a_stop_begins_the_count_anew(watch: HangWatch, clock: Clock, pulse: Pulse) -> None:
    assert not any(looks(watch, clock, Pulse.SILENT, 9))
    assert not any(looks(watch, clock, pulse, 1))
    assert not any(looks(watch, clock, Pulse.SILENT, 9))


def test_a_process_that_is_stopped_for_ever_never_hangs(watch: HangWatch, clock: Clock) -> None:
    assert not any(looks(watch, clock, Pulse.STOPPED, 100))


def test_time_in_which_the_watch_did_not_run_itself_does_not_count(watch: HangWatch, clock: Clock) -> None:
    assert not any(looks(watch, clock, Pulse.SILENT, 9))
    clock.now += 60
    assert not any(looks(watch, clock, Pulse.SILENT, 9))


def test_a_question_whose_answer_nobody_was_there_to_hear_does_not_count(
    watch: HangWatch, clock: Clock
) -> None:
    looks(watch, clock, Pulse.SILENT, 1)
    asked_at = clock.now
    clock.now += 4.5
    assert not watch.look(Pulse.SILENT, asked_at)
    assert not any(looks(watch, clock, Pulse.SILENT, 9))


def test_a_listener_that_says_nothing_is_silent_and_nobody_there_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert take_pulse(address, os.getpid()) is Pulse.SILENT
    assert take_pulse(address, os.getpid()) is Pulse.ANSWERED


def test_a_stopped_process_is_told_from_a_silent_one() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert not is_stopped(process.pid)
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(process.pid), "it is stopped")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            assert take_pulse(f"127.0.0.1:{listener.getsockname()[1]}", process.pid) is Pulse.STOPPED
        process.kill()
