"""Tries whether commands can get at places that must be closed to them: for real, where these places are."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from stigmer_isolation.launcher import CommandLauncher

CANARY_SECONDS: Final = 20.0
_PREFIX: Final = ".self-test-"
_ATTEMPT: Final = """
import json, os, sys
got = []
for path in sys.argv[1:]:
    ways = (
        lambda: open(path).read(),
        lambda: open(path, "a").close(),
        lambda: os.listdir(os.path.dirname(path)),
        lambda: open(os.path.dirname(path) + "/planted", "x").close(),
        lambda: os.rename(path, path + ".moved"),
    )
    for way in ways:
        try:
            way()
        except OSError:
            continue
        got.append(path)
        break
print(json.dumps(got))
"""


async def find_open_places(launcher: CommandLauncher, sessions: Path, closed: Iterable[Path]) -> list[Path]:
    """Those of the directories in which a command can read, list, change or make a file.

    The command runs as any other, in a directory in `sessions`, where it is to find another session's closed.

    Raises:
        OSError: no file can be made in one of them.
        IsolationError: the command could not be run.
        ValueError: it did not say what it found.
    """
    with ExitStack() as scene:
        own, other = (
            Path(scene.enter_context(tempfile.TemporaryDirectory(dir=sessions, prefix=_PREFIX)))
            for _ in range(2)
        )
        places = {other: other / "canary"}
        for place in closed:
            inner = scene.enter_context(tempfile.TemporaryDirectory(dir=place, prefix=_PREFIX))
            places[place] = Path(inner, "canary")
        for canary in places.values():
            canary.write_text("canary", encoding="utf-8")
        directory = os.open(own, os.O_RDONLY | os.O_DIRECTORY)
        scene.callback(os.close, directory)
        result = await launcher.run(
            [sys.executable, "-I", "-S", "-c", _ATTEMPT, *map(str, places.values())],
            directory=directory,
            environment={},
            timeout_seconds=CANARY_SECONDS,
        )
        if result.exit_code != 0:
            raise ValueError(f"it ended with {result.exit_code}: {result.stderr[-200:]}")
        got = set(json.loads(result.stdout))
        # Off the loop: a tree that something was planted in takes its time to go.
        await asyncio.to_thread(scene.close)
    return [sessions if place == other else place for place, canary in places.items() if str(canary) in got]
