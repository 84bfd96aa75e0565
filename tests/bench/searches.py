"""What the file tools take for a search in many files, with ripgrep and by the walk of our own."""

import asyncio
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from figures import Bound, Table

from agent_runner.toolsets.file_search import Found, find_files, search_files
from agent_runner.workspace import SessionWorkspace
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.zygote.policy import Policy

FILES_IN_A_DIRECTORY: Final = 100
RUNS: Final = 3
WALK_FACTOR: Final = 3
"""How much longer than ripgrep the walk of our own may take."""
BOUND_SECONDS: Final = {10_000: 0.5, 100_000: 3.0}


def bench_searches(table: Table) -> None:
    """In 10,000 and 100,000 small files; the best of three, since the first fills the caches."""
    for files, bound in BOUND_SECONDS.items():
        with tempfile.TemporaryDirectory() as name:
            _fill(Path(name), files)
            asyncio.run(_bench(table, Path(name), files, bound))


def _fill(root: Path, files: int) -> None:
    for number in range(files // FILES_IN_A_DIRECTORY):
        directory = root / f"part-{number // 30}" / f"module-{number}"
        directory.mkdir(parents=True)
        for file in range(FILES_IN_A_DIRECTORY):
            text = "".join(f"def function_{file}_{line}(): return {line}\n" for line in range(20))
            (directory / f"file_{file}.py").write_text(text)
    (root / "needle.txt").write_text("the needle\n")


async def _bench(table: Table, root: Path, files: int, bound: float) -> None:
    for how, policy, limit in (("ripgrep", None, bound), ("own walk", Policy(), bound * WALK_FACTOR)):
        async with CommandLauncher(policy=policy) as launcher:
            workspace = SessionWorkspace(root, launcher=launcher)
            assert workspace.holds_files_in is (policy is None)

            async def find(workspace: SessionWorkspace = workspace) -> Found:
                return await find_files(workspace, "needle.*", ".", include_ignored=False)

            async def search(workspace: SessionWorkspace = workspace) -> Found:
                return await search_files(
                    workspace, "the nee+dle", ".", include_glob=None, include_ignored=False
                )

            for what, call in (("find_files", find), ("search_files", search)):
                seconds, kilobytes = await _best(call)
                table.add(
                    f"{what} in {files:,} files, {how}",
                    f"{seconds * 1000:.0f} ms, +{kilobytes / 1024:.0f} MiB",
                    seconds,
                    Bound(limit, f"<= {limit:.1f} s"),
                )


async def _best(call: Callable[[], Awaitable[Found]]) -> tuple[float, int]:
    """Seconds, and by how many kilobytes this process grew at its height."""
    taken: list[float] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(RUNS):
        started = time.perf_counter()
        found = await call()
        taken.append(time.perf_counter() - started)
        assert len(found.lines) == 1, found
    return min(taken), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
