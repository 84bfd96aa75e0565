"""`make bench`: speed and memory of the whole stack, beside a bare agent loop and plain Temporal activities.

Prints a table of figures beside the bounds that the project sets itself, and marks those that are missed.
Nothing here fails a build: a figure says something only about the machine it was measured on, and about what
else that was doing; so the load at the start and the processors' time of each program stand beside it.
"""

import asyncio
import contextlib
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import yaml
from baselines import TOOL_CALLS, plain_activities_loop, run_bare
from figures import Bound, ProcessorTime, Table, milliseconds, percentile
from half_open import bench_half_open
from http_model import ModelOverHttp
from isolation import bench_isolation
from lists import bench_lists
from long_conversations import bench_long_conversations
from many_tools import bench_many_tools
from model_path import bench_model_path
from people import add_chat_start, bench_people, chat_start
from pinned_servers import bench_pinned_servers
from searches import bench_searches
from temporalio.client import Client

from e2e_script import runner_environment, ten_tool_script
from executions import Execution, agent_manifest
from model_server import Fault, ModelServer, ScriptedModel, ScriptedTurn
from running_stack import RunningStack
from stack_home import end_everything, make_stack_home
from stigmer_contract.events import LegLost, ModelResponded, ToolFinished, ToolStarted
from supervised_stack import SupervisedStack

SINGLE_RUNS = 20
AT_ONCE = 50
BATCHES = 5
WAITING = 200
FIRST_TOKEN_RUNS = 20
HELP_RUNS = 15
KILLS = 10
SECONDS_BETWEEN_KILLS = 4.0
STEPS = (ModelResponded, ToolStarted, ToolFinished)
START_RUNS = 3
STIGMER = [str(Path(sys.executable).with_name("stigmer"))]


class HttpModel(ModelOverHttp):
    """Over HTTP what `ten_writes_cassette` is in the process; programs that compare us with others set
    `TOOL_CALLS` of this module for longer executions."""

    def __init__(self, home: Path) -> None:
        """Starts nothing yet."""
        super().__init__(home, tool_calls=TOOL_CALLS)


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


def bench_executions(table: Table, stack: RunningStack, model: str) -> None:
    """One at a time, and many at once. `model` answers in the runner's process, and at once."""
    manifest = agent_manifest(model=model, tools=("files",), name="bench")

    def one(_: int = 0) -> None:
        Execution.start(stack, manifest, "write ten files").wait_until_completed()

    one()
    singles = [timed(one) for _ in range(SINGLE_RUNS)]
    table.add(
        "10-tool execution, POST to completed",
        milliseconds(singles),
        statistics.median(singles),
        Bound(0.4, "<= 400 ms at the median"),
    )
    programs = programs_of(stack)
    rates, rows = many_at_once(one, programs)
    table.add(
        f"{AT_ONCE} at once, all completed",
        each_second(rates),
        statistics.median(rates),
        Bound(10, ">= 10 a second at the median", at_least=True),
    )
    for name, used in rows:
        table.add(f"  processor time of an execution: {name}", used)


def bench_executions_over_http(table: Table, home: Path) -> None:
    """The same with a model on the other side of a connection, in OpenAI's wire format, streamed."""
    with HttpModel(home) as model, RunningStack(home, runner_environment=model.runner_environment) as stack:
        manifest = agent_manifest(tools=("files",), name="bench")

        def one(number: int = -1) -> None:
            prompt = f"write ten files [conversation http-{number}]"
            Execution.start(stack, manifest, prompt).wait_until_completed()

        one()
        rates, rows = many_at_once(one, programs_of(stack) | {"model server": model.pid})
        table.add(f"{AT_ONCE} at once, with a model over HTTP", each_second(rates))
        for name, used in rows:
            table.add(f"  processor time of an execution: {name}", used)


def programs_of(stack: RunningStack) -> dict[str, int]:
    """Process ids by name; the bench itself is the client that starts executions and follows them."""
    temporal = stack.temporal.pid
    assert temporal is not None
    return {
        "runner": stack.runners[-1].pid,
        "server": stack.server_pid,
        "Temporal": temporal,
        "the bench's own client": os.getpid(),
    }


def many_at_once(
    one: Callable[[int], None], programs: dict[str, int]
) -> tuple[list[float], list[tuple[str, str]]]:
    """Executions a second in each batch, and what each program took of the processors over all of them."""
    rates: list[float] = []
    used = ProcessorTime(programs)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for batch in range(BATCHES):
            numbers = range(batch * AT_ONCE, (batch + 1) * AT_ONCE)
            rates.append(AT_ONCE / timed(lambda numbers=numbers: list(threads.map(one, numbers))))
    return rates, used.rows(AT_ONCE * BATCHES)


def each_second(rates: list[float]) -> str:
    """Median, and the slowest and the fastest batch: neighbours on the machine make them differ."""
    return f"{statistics.median(rates):.1f} a second ({min(rates):.1f} to {max(rates):.1f})"


def bench_baselines(table: Table, stack: RunningStack, directory: Path) -> None:
    """The yardsticks, in the same run."""
    run_bare(directory, 2)
    table.add("  bare pydantic_ai.Agent loop", milliseconds(run_bare(directory, SINGLE_RUNS)))

    async def plain() -> list[float]:
        client = await Client.connect(stack.temporal.address)
        return await plain_activities_loop(client, directory, 6)

    table.add("  loop of plain Temporal activities", milliseconds(asyncio.run(plain())[1:]))


def resident_megabytes(pid: int) -> float:
    """Resident memory of a process, without its children."""
    return psutil.Process(pid).memory_info().rss / 1e6


def bench_memory(table: Table, home: Path) -> None:
    """Idle, and with executions that wait on a model."""
    script = ScriptedModel([ScriptedTurn(text="done")], faults={1: [Fault("hang")]})
    with (
        ModelServer(script) as model,
        RunningStack(home, runner_environment=runner_environment(model)) as stack,
    ):
        processes = {"server": stack.server_pid, "runner": stack.runners[-1].pid}
        before = {name: resident_megabytes(pid) for name, pid in processes.items()}
        for name, megabytes in before.items():
            bound = Bound(150, "<= 150 MB")
            table.add(f"memory of the {name}, idle", f"{megabytes:.0f} MB", megabytes, bound)
        manifest = agent_manifest(tools=("shell", "files"), name="bench")
        waiting = [
            Execution.start(stack, manifest, f"wait [conversation waiting-{number}]")
            for number in range(WAITING)
        ]
        for number in range(WAITING):
            model.wait_until_asked(f"waiting-{number}", 1)
        for name, pid in processes.items():
            each = (resident_megabytes(pid) - before[name]) / WAITING
            named = f"memory of the {name}, for each of {WAITING} waiting"
            table.add(named, f"{each:.2f} MB", each, Bound(2, "<= 2 MB"))
        model.release()
        for execution in waiting:
            execution.wait_until_completed()


def bench_recovery(table: Table, home: Path) -> None:
    """From `kill -9` of a native runner under the supervisor to the next step in the log."""
    seconds: list[float] = []
    with ModelServer(ten_tool_script()) as model, SupervisedStack(home, runner_environment(model)) as stack:
        for number in range(KILLS):
            # By then another spare has come up, as it has on a machine where runners seldom die.
            time.sleep(SECONDS_BETWEEN_KILLS)
            prompt = f"Do it. [conversation recovery-{number}]"
            execution = Execution.start(stack, agent_manifest(), prompt)
            execution.wait_for(lambda recorded: isinstance(recorded.event, ToolFinished))
            killed_at = time.time()
            os.kill(stack.pid("runner"), signal.SIGKILL)
            execution.wait_until_completed()
            log = execution.log
            place = next((at for at, one in enumerate(log) if isinstance(one.event, LegLost)), None)
            if place is not None:  # else it was done before it could be killed
                steps = (one for one in log[place:] if isinstance(one.event, STEPS))
                seconds.append(next(steps).recorded_at.timestamp() - killed_at)
        time.sleep(SECONDS_BETWEEN_KILLS)
        spares = (one for one in stack.home.processes() if one.cmdline()[-1] == "spare")
        spare = next(one for one in spares if one.pid != stack.pid("runner"))
        unshared = spare.memory_full_info().uss / 1e6
    table.add(
        f"kill -9 of a native runner to its next step, {len(seconds)} times",
        f"{milliseconds(seconds)}, slowest {max(seconds) * 1000:.0f}",
        statistics.median(seconds),
        Bound(2, "<= 2 s at the median"),
    )
    table.add("  memory of the spare runner, its own", f"{unshared:.0f} MB")


def bench_first_token(table: Table, home: Path) -> None:
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
    table.add(
        "first token, model to terminal",
        milliseconds(delays),
        percentile(delays, 0.95),
        Bound(0.05, "<= 50 ms at the 95th percentile"),
    )


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


def bench_command_line(table: Table, home: Path, cassette: Path) -> None:
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
    table.add("stigmer --help", milliseconds(helps), statistics.median(helps), Bound(0.15, "<= 150 ms"))
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
    chats: list[float] = []
    try:
        for _ in range(START_RUNS):
            stopped.append(to_first_event())
            running += [to_first_event() for _ in range(5)]
            chat = [*STIGMER, "chat", str(manifest)]
            chats += [chat_start(chat, environment, home) for _ in range(5)]
            subprocess.run([*STIGMER, "server", "stop"], env=environment, check=True, capture_output=True)
    finally:
        end_everything(stack_home)
    table.add(
        "stigmer run to the first event, stack stopped",
        f"{statistics.median(stopped):.1f} s (slowest {max(stopped):.1f})",
        max(stopped),
        Bound(5, "<= 5 s, the slowest"),
    )
    table.add(
        "stigmer run to the first event, stack running",
        milliseconds(running),
        percentile(running, 0.95),
        Bound(0.5, "<= 500 ms at the 95th percentile"),
    )
    add_chat_start(table, chats)


def main() -> None:
    """Measure everything."""
    with tempfile.TemporaryDirectory(prefix="stigmer-bench-") as folder:
        home = Path(folder)
        cassette = ten_writes_cassette(home / "cassette.yaml")
        for part in ("stack", "http", "long", "memory", "first-token", "people"):
            (home / part).mkdir()
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n")
        table = Table()
        with RunningStack(home / "stack") as stack:
            bench_executions(table, stack, f"replay:{cassette}")
            bench_baselines(table, stack, home)
        bench_executions_over_http(table, home / "http")
        bench_long_conversations(table, home / "long")
        bench_model_path(table)
        bench_isolation(table)
        bench_searches(table)
        bench_many_tools(table)
        bench_pinned_servers(table)
        bench_memory(table, home / "memory")
        bench_people(table, home / "people")
        bench_first_token(table, home / "first-token")
        bench_recovery(table, home / "recovery")
        bench_half_open(table)
        bench_lists(table, home / "lists")
        bench_command_line(table, home / "command-line", cassette)
        table.conclude()


if __name__ == "__main__":
    main()
