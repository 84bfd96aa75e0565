"""Which containers stand for which list of the server's; what it is told. The containers are scripted."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from stigmer_cli.processes.exit_codes import EXIT_AWAY
from stigmer_cli.processes.identity import ProcessIdentity
from stigmer_cli.stack.component import Component, LineSink
from stigmer_cli.stack.health import Health
from stigmer_cli.stack.keeper import ComponentKeeper, RestartPolicy
from stigmer_cli.stack.log_files import RotatingLog
from stigmer_cli.stack.placements import (
    PlacementMaker,
    PlacementRefused,
    Placements,
    PreparedPlacement,
    WantedPlacement,
)
from stigmer_cli.stack.server_calls import LocalServer
from stigmer_cli.stack.state import ComponentState, PlacementState

QUICK = RestartPolicy(first_delay_seconds=0.001, max_delay_seconds=0.01, probe_interval_seconds=0.001)
LONG = 3600.0
WAIT_SECONDS = 30


class ScriptedContainer:
    """Lives until it is asked to end, or ends at once because its engine is away."""

    process = ProcessIdentity(1, "scripted")

    def __init__(self, *, is_away: bool) -> None:
        self._is_away = is_away
        self._asked = asyncio.Event()

    async def wait(self) -> int:
        if self._is_away:
            return EXIT_AWAY
        await self._asked.wait()
        return 0

    def drain(self) -> None:
        self._asked.set()

    def end_hung(self, how: str) -> None:
        self._asked.set()

    def terminate(self) -> None:
        self._asked.set()

    def kill(self) -> None:
        self._asked.set()


class ScriptedEngine(PlacementMaker):
    """Makes containers of directories, unless they are refused."""

    def __init__(self) -> None:
        self.identities: dict[str, str] = {}
        """Of directories that are another one than at first."""
        self.refused: set[str] = set()
        self.is_away = False
        self.begun: list[str] = []
        self.forgotten: list[str] = []

    def prepare(self, wanted: WantedPlacement) -> PreparedPlacement:
        if wanted.workspace in self.refused:
            raise PlacementRefused(f"{wanted.workspace} is not there", "make it")
        self.begun.append(wanted.workspace)
        component = Component(
            "runner", "127.0.0.1:1", ScriptedLauncher(self), lambda: Health(ready=not self.is_away)
        )
        return PreparedPlacement(self.identities.get(wanted.workspace, "first"), component)

    def identify(self, workspace: str) -> str | None:
        return self.identities.get(workspace, "first")

    def forget(self, placement_id: str) -> None:
        self.forgotten.append(placement_id)


class ScriptedLauncher:
    """Starts containers in the engine."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self._engine = engine

    async def launch(self, write_line: LineSink) -> ScriptedContainer:
        if self._engine.is_away:
            write_line("the engine does not answer; it is waited for")
        return ScriptedContainer(is_away=self._engine.is_away)

    async def prepare(self, write_line: LineSink) -> None:
        return

    async def close(self) -> None:
        return


class Scene:
    """A supervisor's placements, the server that they follow, and an engine."""

    def __init__(self, folder: Path, *, idle_seconds: float, max_containers: int) -> None:
        self.engine = ScriptedEngine()
        self.standing: tuple[PlacementState, ...] = ()
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self._folder = folder
        self._idle_seconds = idle_seconds
        self._max_containers = max_containers
        self._listed: list[str] = []
        self._changed = asyncio.Event()
        self._answering = set[asyncio.Task[None]]()

    def say(self, *workspaces: str) -> None:
        """What the server says has work to do."""
        self._listed = [*workspaces]
        self._changed.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Waits for a fact."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not is_so():  # noqa: ASYNC110  # facts of several objects, which know of no event
                await asyncio.sleep(0.005)

    def told(self, workspace: str) -> list[dict[str, Any]]:
        """What the server was told of a workspace's placement."""
        return [report for of, report in self.reports if of == workspace]

    @property
    def directories(self) -> set[str]:
        """For which a container stands."""
        return {one.directory for one in self.standing}

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """While the supervisor works."""
        token = self._folder / "token"
        token.write_text("token\n", encoding="ascii")
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        placements = Placements(
            server=LocalServer("127.0.0.1", port, token),
            maker=self.engine,
            make_keeper=self._make_keeper,
            on_change=self._take,
            idle_seconds=self._idle_seconds,
            max_containers=self._max_containers,
        )
        running = asyncio.create_task(placements.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait_for(placements.close(), WAIT_SECONDS)
            server.close()
            for answering in self._answering:
                answering.cancel()
            await self.until(lambda: not self._answering)
            await asyncio.sleep(0)  # those who asked hear of it

    def _take(self, standing: tuple[PlacementState, ...]) -> None:
        self.standing = standing

    def _make_keeper(
        self, component: Component, on_change: Callable[[ComponentState], None]
    ) -> ComponentKeeper:
        assert component.launcher is not None
        log = RotatingLog(self._folder / "runner.log")
        return ComponentKeeper(component, component.launcher, log, on_change, lambda _, __: None, QUICK)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering = asyncio.create_task(self._answer(reader, writer))
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)
        await asyncio.wait([answering])
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        if not answering.cancelled():
            assert isinstance(answering.exception(), asyncio.IncompleteReadError | OSError | None)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = unquote((await reader.readuntil(b"\r\n\r\n")).decode())
        method, path, _ = head.split(" ", 2)
        if method == "GET":
            body: dict[str, Any] = await self._next_list(path)
        else:
            length = int(head.lower().split("content-length:")[1].split("\r\n")[0])
            self.reports.append((path.split("/")[3], json.loads(await reader.readexactly(length))))
            body = {"execution_ids": []}
        content = json.dumps(body).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(content), content))
        await writer.drain()

    async def _next_list(self, path: str) -> dict[str, Any]:
        while f"known_version={','.join(self._listed)}-" in path:
            self._changed.clear()
            await self._changed.wait()
        placements = [{"placement_id": one, "task_queue": one, "workspace": one} for one in self._listed]
        return {"placements": placements, "version": f"{','.join(self._listed)}-"}


async def test_a_container_stands_while_there_is_work_and_for_some_time_after(tmp_path: Path) -> None:
    scene = Scene(tmp_path, idle_seconds=0.01, max_containers=9)
    scene.say("one")
    async with scene.running():
        await scene.until(lambda: {"phase": "ready", "reason": None} in scene.told("one"))
        assert scene.directories == {"one"}
        scene.say("one", "other")
        await scene.until(lambda: scene.directories == {"one", "other"})
        scene.say("other")
        await scene.until(lambda: scene.directories == {"other"})
        assert scene.engine.begun == ["one", "other"]
        assert scene.engine.forgotten == ["one"]
        scene.say("one", "other")
        await scene.until(lambda: scene.directories == {"one", "other"})
    assert sorted(scene.engine.forgotten) == ["one", "one", "other"]


async def test_beyond_the_limit_the_idle_one_gives_way_and_where_none_is_the_next_one_waits(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, idle_seconds=LONG, max_containers=1)
    scene.say("one")
    async with scene.running():
        await scene.until(lambda: scene.directories == {"one"})
        scene.say("one", "other")
        reason = "1 containers work side by side already (runner.maxContainers)"
        await scene.until(lambda: scene.told("other") == [{"phase": "waiting", "reason": reason}])
        assert scene.directories == {"one"}
        scene.say("other")
        await scene.until(lambda: scene.directories == {"other"})


async def test_a_directory_that_is_refused_is_told_with_what_helps_and_nothing_else_ends(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, idle_seconds=LONG, max_containers=9)
    scene.engine.refused.add("gone")
    scene.say("one")
    async with scene.running():
        await scene.until(lambda: scene.directories == {"one"})
        scene.say("gone", "one")
        failed = {"phase": "failed", "reason": "gone is not there", "hint": "make it"}
        await scene.until(lambda: failed in scene.told("gone"))
        assert (scene.directories, scene.engine.begun) == ({"one"}, ["one"])
        scene.say("one")
        scene.engine.refused.clear()
        scene.say("gone", "one")
        await scene.until(lambda: scene.directories == {"gone", "one"})


async def test_a_container_ends_whose_directory_is_another_one_now(tmp_path: Path) -> None:
    scene = Scene(tmp_path, idle_seconds=LONG, max_containers=9)
    scene.say("one")
    async with scene.running():
        await scene.until(lambda: scene.directories == {"one"})
        scene.engine.identities["one"] = "second"
        scene.say("one", "other")
        await scene.until(lambda: scene.engine.begun.count("one") == 2)
        await scene.until(lambda: scene.directories == {"one", "other"})


async def test_an_engine_that_is_away_is_waited_for_and_the_reason_told(tmp_path: Path) -> None:
    scene = Scene(tmp_path, idle_seconds=LONG, max_containers=9)
    scene.engine.is_away = True
    scene.say("one")
    async with scene.running():
        reason = "the engine does not answer; it is waited for"
        await scene.until(lambda: {"phase": "waiting", "reason": reason} in scene.told("one"))
        scene.engine.is_away = False
        await scene.until(lambda: {"phase": "ready", "reason": None} in scene.told("one"))
        assert scene.engine.begun == ["one"]
