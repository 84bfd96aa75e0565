"""Lets the faults of a plan happen to a cluster, each at its time, and remembers what each of them met."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, assert_never

from chaos.cluster import Cluster
from chaos.disks import Disk
from chaos.plan import Fault, FaultKind
from chaos.watch import InHand, Watch

_AT_ONCE: Final = 32


@dataclass
class Happened:
    """A fault that came to pass. Times are of the monotonic clock."""

    fault: Fault
    began_at: float
    ended_at: float
    runner: str = ""
    """The name that the runner had which it struck."""
    in_hand: list[InHand] = field(default_factory=list[InHand])
    """What that runner had in hand."""


class Injector:
    """Lets faults happen."""

    def __init__(self, cluster: Cluster, disks: Mapping[str, Disk], watch: Watch) -> None:
        """Does nothing yet."""
        self.happened: list[Happened] = []
        self._cluster = cluster
        self._disks = disks
        self._watch = watch
        self._over = threading.Event()

    def run(self, faults: Sequence[Fault], started_at: float, seconds: float) -> None:
        """Let each fault happen at its time after `started_at`; return after so many seconds, all healed."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fault") as threads:
            running = list[Future[None]]()
            for fault in faults:
                _sleep_until(started_at + fault.at_seconds)
                running.append(threads.submit(self._happen, fault))
            _sleep_until(started_at + seconds)
            self._over.set()
        self._cluster.heal()
        for disk in self._disks.values():
            disk.empty()
        for future in running:
            future.result()

    def _happen(self, fault: Fault) -> None:
        now = time.monotonic()
        happened = Happened(fault, now, now)
        runner = self._cluster.runners.get(fault.target)
        if runner is not None:
            happened.runner = runner.identity
            happened.in_hand = self._watch.in_hand(runner.identity)
        self.happened.append(happened)
        begin, end = self._act_of(fault)
        begin()
        # What is killed has a beginning only, which takes no time worth mentioning.
        if end is not None:
            self._over.wait(fault.seconds)
            end()
        happened.ended_at = time.monotonic()

    def _act_of(self, fault: Fault) -> "tuple[Callable[[], None], Callable[[], None] | None]":
        cluster, name = self._cluster, fault.target
        match fault.kind:
            case FaultKind.KILL:
                return lambda: cluster.kill(name), None
            case FaultKind.KILL_TOLD:
                return lambda: cluster.kill(name, tells=True), None
            case FaultKind.RESTART:
                return lambda: cluster.restart(name), None
            case FaultKind.POWER_CUT:
                return cluster.kill_all, None
            case FaultKind.FREEZE:
                return lambda: cluster.freeze(name), lambda: cluster.thaw(name)
            case FaultKind.CLOCK:
                return lambda: cluster.set_clock(name, fault.amount), None
            case FaultKind.DISK_FULL:
                return self._disks[name].fill, self._disks[name].empty
            case FaultKind.CUT | FaultKind.DELAY | FaultKind.SWALLOW:
                return self._act_on_link(fault)
            case _:
                assert_never(fault.kind)

    def _act_on_link(self, fault: Fault) -> tuple[Callable[[], None], Callable[[], None]]:
        link = self._cluster.network.links[fault.target]
        match fault.kind:
            case FaultKind.DELAY:
                return lambda: link.delay(fault.amount), lambda: link.delay(0.0)
            case FaultKind.SWALLOW:
                return lambda: link.swallow(True), lambda: link.swallow(False)
            case _:

                def cut() -> None:
                    link.refuse(fault.seconds > 0)
                    link.cut()

                return cut, lambda: link.refuse(False)


def _sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.monotonic()))


def kinds_possible(disks: Mapping[str, Disk], *, can_move_clocks: bool) -> frozenset[FaultKind]:
    """What can be done on this machine."""
    kinds = set(FaultKind)
    if not all(disk.is_own for disk in disks.values()):
        kinds.discard(FaultKind.DISK_FULL)
    if not can_move_clocks:
        kinds.discard(FaultKind.CLOCK)
    return frozenset(kinds)
