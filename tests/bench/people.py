"""What it costs to wait for people, how soon it goes on behind their answer, and how soon one can talk."""

import os
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import psutil
from figures import Bound, Table, milliseconds, percentile

from e2e_script import calls_in_order, runner_environment
from executions import Execution, agent_manifest, waits
from model_server import ModelServer, ScriptedCall
from running_stack import RunningStack

WAITING: Final = 100
AT_ONCE: Final = 10
ONE_SLOT: Final = {"TEMPORAL_MAX_CONCURRENCY": "1"}
LEG_AFTER_SECONDS: Final = 0.3
CHAT_SECONDS: Final = 0.4

_ASK: Final = ScriptedCall("ask_user", {"question": "Which one?", "choices": ["red", "green"]})


def bench_people(table: Table, home: Path) -> None:
    """A hundred executions that wait for an answer, on a runner with room for one leg."""
    with (
        ModelServer(calls_in_order([[_ASK]])) as model,
        RunningStack(home, runner_environment=runner_environment(model) | ONE_SLOT) as stack,
    ):
        # What a first hundred leaves behind once and for all, such as pages of memory that stay with a
        # program, is not what it costs to wait.
        for each in _ask(stack, range(-WAITING, 0)):
            each.cancel()
        processes = {"server": stack.server_pid, "runner": stack.runners[-1].pid}
        before = {name: psutil.Process(pid).memory_info().rss for name, pid in processes.items()}
        waiting = _ask(stack, range(1, 1 + WAITING))
        for name, pid in processes.items():
            grown = (psutil.Process(pid).memory_info().rss - before[name]) / 1e6
            bound = Bound(10, "<= 10 MB") if name == "runner" else None
            table.add(
                f"memory of the {name}, {WAITING} wait for people, not the first",
                f"{grown:+.1f} MB",
                grown,
                bound,
            )
        delays = [_answered(stack, model, number, each) for number, each in enumerate(waiting, 1)]
    table.add(
        f"an answer to the model's next turn, {WAITING} times, one slot",
        f"{milliseconds(delays)}, slowest {max(delays) * 1000:.0f}",
        percentile(delays, 0.95),
        Bound(LEG_AFTER_SECONDS, "<= 300 ms at the 95th percentile"),
    )


def _ask(stack: RunningStack, numbers: range) -> list[Execution]:
    """Executions that wait for a person."""
    manifest = agent_manifest(tools=("shell",), name="bench")
    manifest["spec"]["askUser"] = True

    def one(number: int) -> Execution:
        execution = Execution.start(stack, manifest, f"ask [conversation people-{number}]")
        execution.wait_for(waits)
        return execution

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(one, numbers))


def _answered(stack: RunningStack, model: ModelServer, number: int, execution: Execution) -> float:
    """Seconds from the server's word that the answer is taken to the model being asked with it."""
    listed = stack.client.get("/v1/inputs", params={"execution_id": execution.execution_id}).json()
    body = {"outcome": "answered", "answer": "red"}
    stack.client.post(f"/v1/inputs/{listed['items'][0]['input_id']}", json=body).raise_for_status()
    taken = time.perf_counter()
    model.wait_until_asked(f"people-{number}", 2)
    seconds = time.perf_counter() - taken
    execution.wait_until_completed()
    return seconds


def chat_start(command: list[str], environment: dict[str, str], folder: Path) -> float:
    """Seconds from the start of `stigmer chat` to its line, in a terminal."""
    terminal, theirs = os.openpty()
    own = environment | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "COLUMNS": "80", "LINES": "24"}
    started = time.perf_counter()
    with subprocess.Popen(
        command,
        env=own,
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: os.login_tty(theirs),
    ) as chat:
        os.close(theirs)
        shown = b""
        while "›".encode() not in shown:
            shown += os.read(terminal, 4096)
        seconds = time.perf_counter() - started
        chat.terminate()
        chat.wait(timeout=60)
    os.close(terminal)
    return seconds


def add_chat_start(table: Table, seconds: list[float]) -> None:
    """The row of it."""
    table.add(
        "stigmer chat to its line, stack running",
        milliseconds(seconds),
        statistics.median(seconds),
        Bound(CHAT_SECONDS, "<= 400 ms at the median"),
    )
