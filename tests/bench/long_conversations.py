"""What many turns cost, and many executions of one session: late turns and early ones, resuming, opening."""

import os
import statistics
from datetime import datetime
from pathlib import Path
from typing import Final

import psutil
from figures import Bound, Table, milliseconds
from http_model import ModelOverHttp

from executions import Execution, agent_manifest
from running_stack import RunningStack
from stigmer_contract.events import ExecutionCompleted, LegStarted, ModelResponded

TURNS: Final = 500
EARLY: Final = range(5, 35)
LATE: Final = range(465, 495)
RESUMED_AT: Final = 1000
HANDOVERS: Final = 3
RESUMES_SECONDS: Final = 1.0
SPARE_TURNS: Final = 600
"""While another runner starts, the first one goes on."""
EXECUTIONS: Final = 100
ONES: Final = 10
"""So many at the beginning and at the end of a session are held against each other."""
OPENS_SECONDS: Final = 0.3


def bench_long_conversations(table: Table, home: Path) -> None:
    """Over HTTP, with a model that is asked the whole conversation at each turn."""
    for name in ("turns", "resumption", "session"):
        (home / name).mkdir()
    _bench_turns(table, home / "turns")
    _bench_resumption(table, home / "resumption")
    _bench_session(table, home / "session")


def _bench_turns(table: Table, home: Path) -> None:
    with (
        ModelOverHttp(home, tool_calls=TURNS) as model,
        RunningStack(home, runner_environment=model.runner_environment) as stack,
    ):
        warm = Execution.start(stack, _manifest(), "write ten files [conversation warm]")
        warm.wait_for(lambda recorded: isinstance(recorded.event, ModelResponded))
        warm.cancel()
        warm.wait_until_ended()
        programs = {"runner": stack.runners[-1].pid, "server": stack.server_pid}
        used = {name: dict[int, float]() for name in programs}
        megabytes = dict[str, float]()
        edges = {EARLY.start, EARLY.stop, LATE.start, LATE.stop}
        execution = Execution.start(stack, _manifest(), "write files [conversation turns]")
        for recorded in execution.follow():
            if isinstance(recorded.event, ModelResponded) and recorded.event.turn in edges:
                for name, pid in programs.items():
                    used[name][recorded.event.turn] = _processor_seconds(pid)
                    if recorded.event.turn == EARLY.stop:
                        megabytes[name] = psutil.Process(pid).memory_info().rss / 1e6
        for name, pid in programs.items():
            early, late = (_milliseconds_a_turn(used[name], turns) for turns in (EARLY, LATE))
            bound = Bound(2, "<= twice as much") if name == "runner" else None
            table.add(
                f"processor time of a turn around 20 and 480 of {TURNS}: {name}",
                f"{early:.1f}, {late:.1f} ms ({late / early:.1f} times)",
                late / early,
                bound,
            )
            grown = psutil.Process(pid).memory_info().rss / 1e6 - megabytes[name]
            table.add(f"  memory of the {name} grown meanwhile", f"{grown:+.1f} MB")


def _milliseconds_a_turn(used: dict[int, float], turns: range) -> float:
    return (used[turns.stop] - used[turns.start]) / len(turns) * 1000


def _bench_resumption(table: Table, home: Path) -> None:
    """A runner that is told to end hands its execution over to another, which does so in its turn."""
    seconds: list[float] = []
    turns: list[int] = []
    with (
        ModelOverHttp(home, tool_calls=RESUMED_AT + SPARE_TURNS) as model,
        RunningStack(home, runner_environment=model.runner_environment) as stack,
    ):
        execution = Execution.start(stack, _manifest(), "write files [conversation resumed]")
        execution.wait_for(lambda one: isinstance(one.event, ModelResponded) and one.event.turn >= RESUMED_AT)
        for number in range(HANDOVERS):
            begun = execution.resource.last_sequence
            stack.start_runner(f"another-{number}")
            stack.runners[number].process.terminate()
            after = (one for one in execution.follow(begun) if isinstance(one.event, LegStarted))
            started = next(after)
            after = execution.follow(started.sequence)
            step = next(one for one in after if isinstance(one.event, ModelResponded))
            assert isinstance(step.event, ModelResponded)
            seconds.append((step.recorded_at - started.recorded_at).total_seconds())
            turns.append(step.event.turn)
        execution.cancel()
        execution.wait_until_ended()
    table.add(
        f"another leg's start to its first step, at turns {turns[0]:,} to {turns[-1]:,}",
        milliseconds(seconds),
        statistics.median(seconds),
        Bound(RESUMES_SECONDS, "<= 1 s at the median"),
    )


def _bench_session(table: Table, home: Path) -> None:
    with (
        ModelOverHttp(home, tool_calls=0) as model,
        RunningStack(home, runner_environment=model.runner_environment) as stack,
    ):
        first = Execution.start(stack, _manifest(), "say it [conversation session-0]")
        first.wait_until_completed()
        opened = [_seconds_of_leg(first)]
        sizes = [_size_of(home)]
        for number in range(1, EXECUTIONS):
            prompt = f"say it [conversation session-{number}]"
            one = Execution.start(stack, _manifest(), prompt, session_id=first.session_id)
            one.wait_until_completed()
            opened.append(_seconds_of_leg(one))
            if number + 1 in (EXECUTIONS // 2, EXECUTIONS):
                sizes.append(_size_of(home))
    late = opened[-ONES:]
    table.add(
        f"a leg of one turn in a session of {EXECUTIONS} executions, the last {ONES}",
        milliseconds(late),
        statistics.median(late),
        Bound(OPENS_SECONDS, "<= 300 ms at the median"),
    )
    table.add(f"  the first {ONES}", milliseconds(opened[:ONES]))
    halves = [(sizes[1] - sizes[0]) / (EXECUTIONS // 2 - 1), (sizes[2] - sizes[1]) / (EXECUTIONS // 2)]
    table.add(
        "  disk of an execution, in the first half and the second",
        ", ".join(f"{each / 1024:.1f}" for each in halves) + " KiB",
    )


def _seconds_of_leg(execution: Execution) -> float:
    """From the grant, which opens the session, to the answer's being in the log."""
    times: dict[type, datetime] = {type(one.event): one.recorded_at for one in execution.log}
    return (times[ExecutionCompleted] - times[LegStarted]).total_seconds()


def _size_of(home: Path) -> int:
    """Of all that the server keeps; its database's log is as large as it ever was, and no measure."""
    data = home / "data"
    files = (Path(folder) / name for folder, _, names in os.walk(data) for name in names)
    return sum(file.stat().st_size for file in files if not file.name.endswith(("-wal", "-shm")))


def _manifest() -> dict[str, object]:
    turns = RESUMED_AT + SPARE_TURNS + 10
    return agent_manifest(tools=("files",), name="bench", limits={"turns": turns, "duration": "2h"})


def _processor_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system
