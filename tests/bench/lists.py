"""How long `stigmer executions list` takes on a server that holds many."""

import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from figures import Bound, Table, milliseconds

from running_stack import plain_environment
from server_process import TOKEN, ServerProcess

EXECUTIONS = 1_000
TIMES = 10
_CALLERS = 8


def bench_lists(table: Table, home: Path) -> None:
    """All of them, in one list; they wait for a runner."""
    with ServerProcess(home / "server") as server:

        def create(count: int) -> None:
            with server.client() as api:
                for _ in range(count):
                    api.create_execution()

        with ThreadPoolExecutor(_CALLERS) as threads:
            list(threads.map(create, [EXECUTIONS // _CALLERS] * _CALLERS))
        environment = plain_environment() | {
            "STIGMER_HOME": os.fspath(home / "command-line"),
            "STIGMER_BACKEND_ENDPOINT": server.url,
            "STIGMER_TOKEN": TOKEN,
        }
        stigmer = os.fspath(Path(sys.executable).with_name("stigmer"))
        arguments = [stigmer, "executions", "list", "--limit", str(EXECUTIONS)]
        seconds = list[float]()
        for _ in range(TIMES):
            began_at = time.perf_counter()
            shown = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
            seconds.append(time.perf_counter() - began_at)
            assert len(shown.stdout.splitlines()) >= EXECUTIONS
    table.add(
        f"stigmer executions list of {EXECUTIONS:,}",
        milliseconds(seconds),
        statistics.median(seconds),
        Bound(0.2, "<= 200 ms at the median"),
    )
