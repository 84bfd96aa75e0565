"""What isolation costs: a command beside a plain subprocess, a file operation beside a plain one."""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from figures import Bound, Table

from agent_runner.workspace import SessionWorkspace
from stigmer_isolation.bubblewrap import Bubblewrap
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.self_test import measure_isolation

COMMANDS = 200
FILE_OPERATIONS = 500


def bench_isolation(table: Table) -> None:
    """Both in turns, so that whatever else the machine does slows both."""
    asyncio.run(_bench(table))


async def _bench(table: Table) -> None:
    with tempfile.TemporaryDirectory() as name:
        async with CommandLauncher() as launcher:
            workspace = SessionWorkspace(Path(name), launcher=launcher)
            root = await workspace.working_dir()
            path = f"{root}/file"
            await workspace.write_bytes(path, b"x" * 1000)

            async def isolated() -> None:
                await workspace.run(["sh", "-c", "true"])

            async def plain() -> None:
                child = await asyncio.create_subprocess_exec("sh", "-c", "true", cwd=root, env={})
                await child.wait()

            async def isolated_read() -> None:
                await workspace.read_bytes(path)

            async def plain_read() -> None:
                descriptor = os.open(path, os.O_RDONLY)
                os.read(descriptor, 4096)
                os.close(descriptor)

            beside, isolated_one = await _medians(plain, isolated, COMMANDS)
            table.add(
                "a command, isolated beside plain (median)",
                f"{isolated_one * 1000:.1f} / {beside * 1000:.1f} ms",
                isolated_one - beside,
                Bound(0.02, "at most 20 ms more"),
            )
            bubblewrap = Bubblewrap.find()
            isolation = await measure_isolation(launcher, bubblewrap)
            if isolation.no_bubblewrap_because is None:
                started = time.perf_counter()
                await isolated()
                first = time.perf_counter() - started
                beside, inside = await _medians(plain, isolated, COMMANDS)
                table.add(
                    "a command, in bubblewrap too, beside plain (median)",
                    f"{inside * 1000:.1f} / {beside * 1000:.1f} ms; the first {first * 1000:.0f} ms",
                    inside - beside,
                    Bound(0.02, "at most 20 ms more"),
                )
            beside, inside = await _medians(plain_read, isolated_read, FILE_OPERATIONS)
            table.add(
                "reading a file of 1 kB, isolated beside plain (median)",
                f"{inside * 1000:.3f} / {beside * 1000:.3f} ms",
                inside - beside,
                Bound(0.0002, "at most 0.2 ms more"),
            )


async def _medians(
    first: Callable[[], Awaitable[None]], second: Callable[[], Awaitable[None]], times: int
) -> tuple[float, float]:
    """Seconds of each, run in turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        for action, taken in zip((first, second), seconds, strict=True):
            started = time.perf_counter()
            await action()
            taken.append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])
