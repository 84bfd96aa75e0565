"""What MCP servers cost a leg: five that are pinned and none of them called, and calls of one.

Legs run in this process, with a server in memory and a scripted model, so that nothing else is measured.
"""

import asyncio
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
from figures import Bound, Table

from agent_runner.legs import ActivityAttempt
from leg_server import SESSION, Server, leg_runner
from mcp_legs import STAND_INS, calls, plain
from stigmer_contract.events import ExecutionCompleted, ToolFinished
from stigmer_contract.tool_lists import ListedTool, ToolList
from stigmer_isolation.launcher import CommandLauncher

LEGS: Final = 20
SERVERS: Final = 5
TOOLS: Final = 20
LATER_CALLS: Final = 50


def bench_pinned_servers(table: Table) -> None:
    """Beside an agent without any; the calls beside the server's own time."""
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(_bench(table, Path(name)))


async def _bench(table: Table, root: Path) -> None:
    workspace = root / SESSION
    workspace.mkdir(mode=0o700)
    program = workspace / "server.py"
    program.write_bytes((STAND_INS / "plain_server.py").read_bytes())
    async with CommandLauncher() as launcher:
        lists = {f"server-{n}": _list(f"server-{n}") for n in range(SERVERS)}
        await _legs(launcher, root, {}, 3)
        await _legs(launcher, root, lists, LEGS)
        bare = await _legs(launcher, root, {}, LEGS)
        before = _memory()
        pinned = await _legs(launcher, root, lists, LEGS)
        grown = _memory() - before
        more = statistics.median(pinned) - statistics.median(bare)
        table.add(
            "5 pinned servers, none called", f"+{more * 1000:.0f} ms", more, Bound(0.030, "<= 30 ms more")
        )
        table.add(
            "  memory of 20 such legs, after the first 20",
            f"+{grown / 2**20:.1f} MB",
            grown,
            Bound(2 << 20, "<= 2 MB more"),
        )
        own = min(_bare_start(program) for _ in range(3))
        taken = await _call_seconds(launcher, root, 1 + LATER_CALLS)
        over = taken[0] - own
        table.add(
            "first call of a leg, over the server's own start",
            f"+{over * 1000:.0f} ms",
            over,
            Bound(0.2, "<= 0.2 s"),
        )
        later = statistics.median(taken[1:])
        table.add("a later call", f"{later * 1000:.1f} ms", later, Bound(0.005, "<= 5 ms"))
    importing = min(_importing() for _ in range(3))
    name = "the first call of a runner besides: importing the SDK"
    table.add(name, f"+{importing * 1000:.0f} ms", importing, Bound(0.6, "<= 0.6 s"))


def _list(server: str) -> ToolList:
    schema: dict[str, Any] = {"type": "object", "properties": {"invoice": {"type": "string"}}}
    tools = [
        ListedTool(name=f"book_{n}", description=f"Books invoices of kind {n}.", input_schema=schema)
        for n in range(TOOLS)
    ]
    return ToolList(server=server, tools=tools)


async def _legs(
    launcher: CommandLauncher, root: Path, lists: Mapping[str, ToolList], count: int
) -> Sequence[float]:
    """Seconds of each leg, which asks the model once."""
    taken = list[float]()
    for _ in range(count):
        server = Server(mcpServers=[plain(name) for name in lists], context={"window": 1_000_000})
        server.pins.update(lists)
        runner = leg_runner(server, calls(), launcher, root)
        started = time.perf_counter()
        await runner.run("exe_1", ActivityAttempt("try-1", b"token"))
        taken.append(time.perf_counter() - started)
        assert isinstance(server.events[-1], ExecutionCompleted), server.events[-1]
    return taken


async def _call_seconds(launcher: CommandLauncher, root: Path, count: int) -> list[float]:
    """What each call of one leg took; the first with the server's start, which is pinned."""
    adding = [("plain__add", {"a": 1, "b": n}) for n in range(count)]
    first = Server(mcpServers=[plain()])
    await leg_runner(first, calls(), launcher, root).run("exe_1", ActivityAttempt("try-1", b"token"))
    server = Server(mcpServers=[plain()])
    server.pins.update(first.pins)
    await leg_runner(server, calls(*adding), launcher, root).run("exe_1", ActivityAttempt("try-1", b"token"))
    return [event.duration_seconds for event in server.events if isinstance(event, ToolFinished)]


def _bare_start(program: Path) -> float:
    """From the start of the server, by itself, to its answer to `tools/list`."""
    hello = '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}\n'
    ask = '{"jsonrpc":"2.0","id":2,"method":"tools/list"}\n'
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, str(program)], input=hello + ask, encoding="utf-8", capture_output=True, check=True
    )
    return time.perf_counter() - started


def _importing() -> float:
    """Seconds of processor, beside what every runner imports."""
    program = (
        "import agent_runner.legs, time; t = time.process_time(); "
        "import agent_runner.mcp_servers.connection; print(time.process_time() - t)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    return float(done.stdout)


def _memory() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss
