"""Keeps a container for each workspace directory that has work to do, by the server's list; no command does.

One is started when an execution comes, shared by the sessions of its directory, started again where it dies,
and ended when it has been idle for long. Beyond the limit the one that is idle longest gives way, else the
execution waits, and says for what. What cannot be mounted ends the executions that want it, and nothing else.
"""

import asyncio
import contextlib
import http
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from stigmer_cli.errors import StigmerError
from stigmer_cli.stack.component import Component
from stigmer_cli.stack.keeper import ComponentKeeper
from stigmer_cli.stack.server_calls import CallFailed, LocalServer
from stigmer_cli.stack.state import ComponentPhase, ComponentState, PlacementState

logger = logging.getLogger(__name__)

FOLLOW_SECONDS = 20.0
"""How long the server is asked to wait for another list."""
CALL_SECONDS = 10.0
AWAY_SECONDS = 0.5
LOOK_SECONDS = 1.0
"""How often directories that are mounted are looked at, whether they are still the same."""


@dataclass(frozen=True)
class WantedPlacement:
    """A line of the server's list."""

    placement_id: str
    task_queue: str
    workspace: str


@dataclass(frozen=True)
class PreparedPlacement:
    """A placement whose container can be started."""

    identity: str
    """Of its directory."""
    component: Component


class PlacementRefused(Exception):
    """A placement can have no container; executions that want it end with that."""

    def __init__(self, reason: str, hint: str | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class PlacementMaker:
    """What is needed to make containers for placements; how is said elsewhere. Its methods may block."""

    def prepare(self, wanted: WantedPlacement) -> PreparedPlacement:
        """Sees that the directory can be mounted, and puts the placement where its attendant finds it.

        Raises:
            PlacementRefused: it cannot be.
        """
        raise NotImplementedError

    def identify(self, workspace: str) -> str | None:
        """What tells the directory that is there now from another; None where there is none to mount."""
        raise NotImplementedError

    def forget(self, placement_id: str) -> None:
        """The container has ended."""
        raise NotImplementedError


@dataclass
class _Standing:
    """A placement that has a container, or is to get one."""

    wanted: WantedPlacement
    identity: str
    keeper: ComponentKeeper
    state: ComponentState
    task: "asyncio.Task[None] | None" = None
    idle_since: float | None = None
    """By the monotonic clock; None: it has work to do."""
    is_ending: bool = False
    told: tuple[str, str | None] | None = None
    """Phase and reason that the server was told last."""


MakeKeeper = Callable[[Component, Callable[[ComponentState], None]], ComponentKeeper]


@dataclass
class Placements:
    """The containers of placements, for as long as the supervisor lives."""

    server: LocalServer
    maker: PlacementMaker
    make_keeper: MakeKeeper
    on_change: Callable[[tuple[PlacementState, ...]], None]
    idle_seconds: float
    max_containers: int
    _standing: dict[str, _Standing] = field(default_factory=dict[str, _Standing])
    _wanted: dict[str, WantedPlacement] = field(default_factory=dict[str, WantedPlacement])
    _told_waiting: set[str] = field(default_factory=set[str])
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set["asyncio.Task[None]"])
    _version: str | None = None
    """Of the list that was read last; None: whatever it is, the next one counts."""
    _reading: "asyncio.Task[list[WantedPlacement]] | None" = None
    _is_closing: bool = False

    async def run(self) -> None:
        """Until cancelled; then `close` ends what stands."""
        following = asyncio.create_task(self._follow())
        try:
            while True:
                self._changed.clear()
                await self._arrange()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS if self._standing else None):
                        await self._changed.wait()
        finally:
            following.cancel()

    async def close(self, drain_seconds: float = 0.0) -> None:
        """Ends all containers side by side; each first finishes what it is at, for so long at most."""
        self._is_closing = True
        for standing in self._standing.values():
            if drain_seconds:
                standing.keeper.request_drain(drain_seconds)
            else:
                standing.keeper.request_stop()
        tasks = [standing.task for standing in self._standing.values() if standing.task is not None]
        if tasks:
            await asyncio.wait(tasks)
        for task in self._tasks:
            task.cancel()

    def hurry(self) -> None:
        """Drop what containers that `close` drains are still at."""
        for standing in self._standing.values():
            standing.keeper.request_stop()

    async def _follow(self) -> None:
        while True:
            self._reading = asyncio.create_task(self._read_list())
            try:
                await asyncio.wait([self._reading])
            finally:
                self._reading.cancel()
            if self._reading.cancelled():
                continue
            try:
                found = self._reading.result()
            except (CallFailed, KeyError, TypeError) as error:
                logger.debug("the server's list of placements could not be read error=%s", error)
                self._version = None
                await asyncio.sleep(AWAY_SECONDS)
                continue
            self._wanted = {one.placement_id: one for one in found}
            self._told_waiting &= self._wanted.keys()
            self._changed.set()

    async def _read_list(self) -> list[WantedPlacement]:
        """The server's list, once it is another than the last one."""
        known = {} if self._version is None else {"known_version": self._version}
        status, answer = await self.server.call(
            "GET",
            f"/v1/placements?{urlencode({'wait_seconds': FOLLOW_SECONDS} | known)}",
            timeout_seconds=FOLLOW_SECONDS + CALL_SECONDS,
        )
        if status != http.HTTPStatus.OK:
            raise CallFailed(f"the server answered {status}")
        found = [
            WantedPlacement(one["placement_id"], one["task_queue"], one["workspace"])
            for one in answer["placements"]
        ]
        self._version = str(answer["version"])
        return found

    def _read_anew(self) -> None:
        """Ask for the whole list: who wanted something may have ended, and another one want the same."""
        self._version = None
        if self._reading is not None:
            self._reading.cancel()

    async def _arrange(self) -> None:
        """Bring what stands in line with what is wanted."""
        now = time.monotonic()
        for placement_id, standing in self._standing.items():
            if placement_id in self._wanted:
                standing.idle_since = None
            elif standing.idle_since is None:
                standing.idle_since = now
                standing.told = None
            elif now - standing.idle_since >= self.idle_seconds:
                self._end(standing, f"it was idle for {self.idle_seconds:.0f} s")
        await self._end_changed()
        for wanted in list(self._wanted.values()):
            if wanted.placement_id in self._standing:
                self._tell_state(self._standing[wanted.placement_id])
            elif len(self._standing) < self.max_containers:
                await self._start(wanted)
            else:
                self._make_room()
                self._tell_waiting(wanted)
        self._record()

    async def _end_changed(self) -> None:
        """End containers that show a directory which stands at its path no more."""
        for standing in list(self._standing.values()):
            if not standing.is_ending:
                seen = await asyncio.to_thread(self.maker.identify, standing.wanted.workspace)
                if seen != standing.identity:
                    self._end(standing, "its directory was moved, removed or made anew")

    def _make_room(self) -> None:
        """End the container that is idle longest, unless one is ending already."""
        if any(standing.is_ending for standing in self._standing.values()):
            return
        idle = [standing for standing in self._standing.values() if standing.idle_since is not None]
        if idle:
            self._end(min(idle, key=lambda one: one.idle_since or 0.0), "another one needs its place")

    def _end(self, standing: _Standing, why: str) -> None:
        if not standing.is_ending:
            logger.info("ending the container of %s: %s", standing.wanted.workspace, why)
            standing.is_ending = True
            standing.keeper.request_stop()

    async def _start(self, wanted: WantedPlacement) -> None:
        try:
            prepared = await asyncio.to_thread(self.maker.prepare, wanted)
        except PlacementRefused as error:
            await self._refuse(wanted, error.reason, error.hint)
            return
        except StigmerError as error:  # such as a full disk: not the directory's fault
            self._tell(wanted, "waiting", error.message)
            return

        def note(state: ComponentState) -> None:
            standing.state = state
            self._changed.set()

        keeper = self.make_keeper(prepared.component, note)
        state = ComponentState(prepared.component.name, prepared.component.address)
        standing = _Standing(wanted, prepared.identity, keeper, state)
        self._standing[wanted.placement_id] = standing
        standing.task = asyncio.create_task(self._keep(standing))
        logger.info("starting a container for %s", wanted.workspace)

    async def _keep(self, standing: _Standing) -> None:
        wanted = standing.wanted
        try:
            await standing.keeper.keep()
            if standing.state.phase is ComponentPhase.FAILED and not self._is_closing:
                last = next(iter(standing.state.last_lines[-1:]), standing.state.reason or "it failed")
                await self._refuse(wanted, last, "run `stigmer server logs --runner` to see more")
        finally:
            del self._standing[wanted.placement_id]
            await asyncio.to_thread(self.maker.forget, wanted.placement_id)
            self._changed.set()

    async def _refuse(self, wanted: WantedPlacement, reason: str, hint: str | None) -> None:
        """End the executions that want it: a mount that failed is wanted anew by the next one only."""
        logger.warning("no container for %s: %s", wanted.workspace, reason)
        self._wanted.pop(wanted.placement_id, None)
        report = {"phase": "failed", "reason": reason[:1000], "hint": hint}
        with contextlib.suppress(CallFailed):  # the list names it again
            await self._post(wanted, report)
        asyncio.get_running_loop().call_later(AWAY_SECONDS, self._read_anew)

    def _tell_waiting(self, wanted: WantedPlacement) -> None:
        if wanted.placement_id in self._told_waiting:
            return
        self._told_waiting.add(wanted.placement_id)
        reason = f"{self.max_containers} containers work side by side already (runner.maxContainers)"
        self._tell(wanted, "waiting", reason)

    def _tell_state(self, standing: _Standing) -> None:
        """Let executions that wait for the container say how it is."""
        state = standing.state
        if state.phase is ComponentPhase.READY:
            told = ("ready", None)
        else:
            # Before it was ended once, that it does not answer yet is no reason.
            has_ended = state.restarts > 0 or state.phase is ComponentPhase.RESTARTING
            why = next(iter(state.last_lines[-1:]), state.reason if has_ended else None)
            told = ("waiting", why or "the container for its workspace is being started")
        if told != standing.told:
            standing.told = told
            self._tell(standing.wanted, *told)

    def _tell(self, wanted: WantedPlacement, phase: str, reason: str | None) -> None:
        async def tell() -> None:
            with contextlib.suppress(CallFailed):  # it is for people only
                await self._post(wanted, {"phase": phase, "reason": reason and reason[:1000]})

        self._spawn(tell())

    async def _post(self, wanted: WantedPlacement, report: Mapping[str, object]) -> None:
        path = f"/v1/placements/{wanted.placement_id}/reports"
        await self.server.call("POST", path, report, timeout_seconds=CALL_SECONDS)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _record(self) -> None:
        self.on_change(
            tuple(
                PlacementState(
                    directory=standing.wanted.workspace,
                    placement_id=standing.wanted.placement_id,
                    is_idle=standing.idle_since is not None,
                    component=standing.state,
                )
                for standing in self._standing.values()
            )
        )
