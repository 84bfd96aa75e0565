"""`make bench`: speed and memory of the whole stack, beside a bare agent loop and plain Temporal activities.

Prints one line a figure, with the bound that the project sets itself. Nothing here fails a build: a figure
says something only about the machine it was measured on, and about what else that was doing.
"""

import asyncio
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import yaml
from baselines import TOOL_CALLS, plain_activities_loop, run_bare
from temporalio.client import Client

from e2e_script import runner_environment
from executions import Execution, agent_manifest
from model_server import Fault, ModelServer, ScriptedModel, ScriptedTurn
from running_stack import RunningStack
from stack_home import end_everything, make_stack_home

SINGLE_RUNS = 20
AT_ONCE = 50
WAITING = 200
FIRST_TOKEN_RUNS = 20
HELP_RUNS = 15
START_RUNS = 3
STIGMER = [str(Path(sys.executable).with_name("stigmer"))]


def report(name: str, value: str, bound: str = "") -> None:
    """One figure."""
    print(f"{name:<58} {value:>22}  {bound}", flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least that share does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def milliseconds(values: Sequence[float]) -> str:
    """Median and the slowest twentieth."""
    return f"{statistics.median(values) * 1000:.0f} ms (p95 {percentile(values, 0.95) * 1000:.0f})"


def ten_writes_cassette(path: Path) -> Path:
    """A model that answers at once, in the runner's process: ten file writes, then done."""
    turns: list[dict[str, Any]] = []
    for turn in range(TOOL_CALLS):
        expect = {"results": [{"tool": "write_file"}]} if turn else {"prompt": "write ten files"}
        arguments = {"path": f"file-{turn}.txt", "content": f"content {turn}"}
        call = {"id": f"call-{turn}", "tool": "write_file", "arguments": arguments}
        turns.append({"expect": expect, "toolCalls": [call]})
    turns.append({"expect": {"results": [{"tool": "write_file"}]}, "text": "done"})
    cassette = {"version": 1, "agent": "bench", "model": "replay:bench", "turns": turns}
    path.write_text(yaml.safe_dump(cassette), encoding="utf-8")
    return path


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def bench_executions(stack: RunningStack, cassette: Path) -> None:
    """One at a time, and many at once."""
    manifest = agent_manifest(model=f"replay:{cassette}", tools=("files",), name="bench")

    def one(_: int = 0) -> None:
        Execution.start(stack, manifest, "write ten files").wait_until_completed()

    one()
    singles = [timed(one) for _ in range(SINGLE_RUNS)]
    report("10-tool execution, POST to completed", milliseconds(singles), "<= 400 ms at the median")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        seconds = timed(lambda: list(threads.map(one, range(AT_ONCE))))
    report(f"{AT_ONCE} at once, all completed", f"{AT_ONCE / seconds:.1f} a second", ">= 10 a second")


def bench_baselines(stack: RunningStack, directory: Path) -> None:
    """The yardsticks, in the same run."""
    run_bare(directory, 2)
    report("  bare pydantic_ai.Agent loop", milliseconds(run_bare(directory, SINGLE_RUNS)))

    async def plain() -> list[float]:
        client = await Client.connect(stack.temporal.address)
        return await plain_activities_loop(client, directory, 6)

    report("  loop of plain Temporal activities", milliseconds(asyncio.run(plain())[1:]))


def resident_megabytes(pid: int) -> float:
    """Resident memory of a process, without its children."""
    return psutil.Process(pid).memory_info().rss / 1e6


def bench_memory(home: Path) -> None:
    """Idle, and with executions that wait on a model."""
    script = ScriptedModel([ScriptedTurn(text="done")], faults={1: [Fault("hang")]})
    with (
        ModelServer(script) as model,
        RunningStack(home, runner_environment=runner_environment(model)) as stack,
    ):
        processes = {"server": stack.server_pid, "runner": stack.runners[-1].pid}
        before = {name: resident_megabytes(pid) for name, pid in processes.items()}
        for name, megabytes in before.items():
            report(f"memory of the {name}, idle", f"{megabytes:.0f} MB", "<= 150 MB")
        manifest = agent_manifest(tools=("shell", "files"), name="bench")
        waiting = [
            Execution.start(stack, manifest, f"wait [conversation waiting-{number}]")
            for number in range(WAITING)
        ]
        for number in range(WAITING):
            model.wait_until_asked(f"waiting-{number}", 1)
        for name, pid in processes.items():
            each = (resident_megabytes(pid) - before[name]) / WAITING
            report(f"memory of the {name}, for each of {WAITING} waiting", f"{each:.2f} MB", "<= 2 MB")
        model.release()
        for execution in waiting:
            execution.wait_until_completed()


def bench_first_token(home: Path) -> None:
    """From the model server's socket to the standard output of `stigmer run`."""
    words = ScriptedTurn(stamped_chunks=20, chunk_seconds=0.02)
    delays: list[float] = []
    with (
        ModelServer(ScriptedModel([words])) as model,
        RunningStack(home, runner_environment=runner_environment(model)) as stack,
    ):
        manifest = home / "agent.yaml"
        manifest.write_text(yaml.safe_dump(agent_manifest(tools=(), name="bench")), encoding="utf-8")
        for _ in range(FIRST_TOKEN_RUNS):
            delays.append(
                _first_token_delay([*STIGMER, "run", str(manifest), "say the time"], stack.environment)
            )
    report("first token, model to terminal", milliseconds(delays), "<= 50 ms at the 95th percentile")


def _first_token_delay(command: list[str], environment: dict[str, str]) -> float:
    """Seconds from the time that the first word of the answer tells to its being on the terminal."""
    terminal, theirs = os.openpty()  # into a pipe, the answer goes only when it is whole
    with subprocess.Popen(command, env=environment, stdout=theirs, stderr=subprocess.DEVNULL) as run:
        os.close(theirs)
        shown = b""
        while (stamp := re.search(rb"\d{10}\.\d+(?=\s)", shown)) is None:
            shown += os.read(terminal, 4096)
        seen = time.time()
        with contextlib.suppress(OSError):  # how the end of a terminal is told
            while os.read(terminal, 4096):
                pass
        run.wait(timeout=60)
    os.close(terminal)
    return seen - float(stamp.group())


def bench_command_line(home: Path, cassette: Path) -> None:
    """Start-up of the command line, and of everything."""
    stack_home = make_stack_home(home, own_temporal=True, real_programs=True)
    environment = stack_home.environment
    helps = [
        timed(
            lambda: subprocess.run(
                [*STIGMER, "--help"], env=environment, stdout=subprocess.DEVNULL, check=True
            )
        )
        for _ in range(HELP_RUNS)
    ]
    report("stigmer --help", milliseconds(helps), "<= 150 ms")
    manifest = home.with_suffix(".yaml")
    manifest.write_text(
        yaml.safe_dump(agent_manifest(model=f"replay:{cassette}", tools=("files",), name="bench")),
        encoding="utf-8",
    )

    def to_first_event() -> float:
        started = time.perf_counter()
        with subprocess.Popen(
            [*STIGMER, "run", "--json", str(manifest), "write ten files"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as run:
            assert run.stdout is not None
            assert run.stdout.readline()
            seconds = time.perf_counter() - started
            run.communicate(timeout=60)
        return seconds

    stopped: list[float] = []
    running: list[float] = []
    try:
        for _ in range(START_RUNS):
            stopped.append(to_first_event())
            running += [to_first_event() for _ in range(5)]
            subprocess.run([*STIGMER, "server", "stop"], env=environment, check=True, capture_output=True)
    finally:
        end_everything(stack_home)
    report("stigmer run to the first event, stack stopped", f"{statistics.median(stopped):.1f} s", "<= 5 s")
    report("stigmer run to the first event, stack running", milliseconds(running), "<= 500 ms")


def main() -> None:
    """Measure everything."""
    with tempfile.TemporaryDirectory(prefix="stigmer-bench-") as folder:
        home = Path(folder)
        cassette = ten_writes_cassette(home / "cassette.yaml")
        for part in ("stack", "memory", "first-token"):
            (home / part).mkdir()
        load = os.getloadavg()[0]
        print(f"{os.cpu_count()} cores, load {load:.1f} at the start\n")
        with RunningStack(home / "stack") as stack:
            bench_executions(stack, cassette)
            bench_baselines(stack, home)
        bench_memory(home / "memory")
        bench_first_token(home / "first-token")
        bench_command_line(home / "command-line", cassette)


if __name__ == "__main__":
    main()
