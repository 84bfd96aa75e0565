"""What is going to happen: which faults come when, and what executions do. Pure; a seed decides it all."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

SERVERS: Final = ("server-1", "server-2")
RUNNERS: Final = ("runner-1", "runner-2", "runner-3")
POSTGRES: Final = "postgres"
TEMPORAL: Final = "temporal"
MODEL: Final = "model"
CLIENT: Final = "client"
DISKS: Final = ("disk-of-postgres", "disk-of-blobs")

LINKS: Final = (
    *(f"{server}>{POSTGRES}" for server in SERVERS),
    *(f"{server}>{TEMPORAL}" for server in SERVERS),
    *(f"{runner}>servers" for runner in RUNNERS),
    *(f"{runner}>{TEMPORAL}" for runner in RUNNERS),
    *(f"{runner}>{MODEL}" for runner in RUNNERS),
    f"{CLIENT}>servers",
)


class FaultKind(StrEnum):
    """What can go wrong."""

    KILL = "kill"
    """kill -9; who started the program says nothing of it, and starts it again."""
    KILL_TOLD = "kill-told"
    """kill -9 of a runner; who started it tells the server."""
    RESTART = "restart"
    """In good order."""
    POWER_CUT = "power-cut"
    """kill -9 of everything."""
    FREEZE = "freeze"
    """SIGSTOP, and SIGCONT when it is over."""
    CUT = "cut"
    """All connections of a link break, and new ones do until it is over."""
    DELAY = "delay"
    """Every piece on a link is late."""
    SWALLOW = "swallow"
    """A link's connections are half-open."""
    DISK_FULL = "disk-full"
    CLOCK = "clock"
    """A program's wall clock jumps, and stays there until its next jump."""


@dataclass(frozen=True)
class Fault:
    """One fault of the schedule."""

    at_seconds: float
    """After the start."""
    kind: FaultKind
    target: str
    """A program, a link, or a disk."""
    seconds: float = 0.0
    """How long it holds."""
    amount: float = 0.0
    """Of a delay or a clock's jump, in seconds."""

    @property
    def end_seconds(self) -> float:
        """When it is over."""
        return self.at_seconds + self.seconds


@dataclass(frozen=True)
class Shape:
    """How large a run is."""

    minutes: float
    executions: int
    fault_seconds: float
    """Mean time from one fault to the next."""
    longest_freeze_seconds: float
    longest_command_seconds: float

    @classmethod
    def of(cls, minutes: float) -> "Shape":
        """For so many minutes: 500 executions in half an hour; short runs have more a minute."""
        if minutes < 5:
            return cls(minutes, max(8, round(minutes * 20)), 2.0, 8.0, 6.0)
        return cls(minutes, round(minutes * 50 / 3), 6.0, 120.0, 60.0)

    @property
    def seconds(self) -> float:
        """How long faults come."""
        return self.minutes * 60


@dataclass(frozen=True)
class Work:
    """What one execution is asked to do."""

    key: str
    """Under which the model counts it."""
    at_seconds: float
    commands: tuple[float, ...]
    """How long the command of each turn takes, in seconds; 0: it only leaves its mark."""
    parallel: int = 1
    """Commands in each answer."""
    answer_seconds: float = 0.0
    """How long an answer takes."""
    answer_characters: int = 20
    cancel_after: int | None = None
    """The event after which a person cancels it."""


@dataclass(frozen=True)
class Plan:
    """A whole run."""

    seed: int
    shape: Shape
    faults: tuple[Fault, ...]
    works: tuple[Work, ...] = field(default=())
    has_model_faults: bool = True
    """Whether the model does wrong, too."""


_WEIGHTS: Final[Mapping[FaultKind, float]] = {
    FaultKind.KILL: 16,
    FaultKind.KILL_TOLD: 12,
    FaultKind.RESTART: 6,
    FaultKind.POWER_CUT: 0.7,
    FaultKind.FREEZE: 14,
    FaultKind.CUT: 16,
    FaultKind.DELAY: 10,
    FaultKind.SWALLOW: 12,
    FaultKind.DISK_FULL: 3,
    FaultKind.CLOCK: 5,
}
_PROGRAMS: Final = ((*RUNNERS, *RUNNERS, *SERVERS, POSTGRES, TEMPORAL), (*RUNNERS, *SERVERS))
"""Runners are hit most, for there are the most of them."""
_STRIKES: Final[Mapping[FaultKind, tuple[float, float]]] = {
    FaultKind.KILL_TOLD: (0.0, 9.0),
    FaultKind.KILL: (0.0, 14.0),
    FaultKind.FREEZE: (12.0, 5.0),
}
"""How long each holds, and what comes after it: until all have recovered, and the runner is back."""
_FIRST_STRIKE_SECONDS: Final = 5.0
_SECONDS_BETWEEN_STARTS: Final = 2.0
_TURNS_OF_STRUCK: Final = 12
"""So that some of them are at work on each runner at any time."""
_LARGE_ANSWER_CHARACTERS: Final = 80_000


def make_plan(seed: int, shape: Shape, kinds: frozenset[FaultKind]) -> Plan:
    """The plan of a seed. Faults of other kinds leave their places empty, so that the rest is the same."""
    chance = random.Random(seed)
    faults = list[Fault]()
    at_seconds = shape.fault_seconds
    while at_seconds < shape.seconds:
        kind = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        fault = _make_fault(kind, at_seconds, shape, chance)
        if kind in kinds:
            faults.append(fault)
        at_seconds += chance.uniform(0.5, 1.5) * shape.fault_seconds
    works = tuple(_make_work(number, seed, shape, chance) for number in range(shape.executions))
    return Plan(seed, shape, tuple(faults), works)


def make_recovery_plan(seed: int, strikes: int) -> Plan:
    """Runners that die or hang while they are at work, so many of each kind, and nothing else meanwhile."""
    chance = random.Random(seed)
    faults = list[Fault]()
    at_seconds = _FIRST_STRIKE_SECONDS
    for number in range(strikes):
        for turn, (kind, (holds_seconds, pause_seconds)) in enumerate(_STRIKES.items()):
            # Never the one that was struck last, which may not be at work again yet.
            target = RUNNERS[(number + turn) % len(RUNNERS)]
            faults.append(Fault(round(at_seconds, 3), kind, target, holds_seconds))
            # At no fixed place within a step, or between the moments at which anybody looks.
            at_seconds += holds_seconds + pause_seconds + chance.uniform(0.0, 1.0)
    seconds = at_seconds
    works = tuple(
        Work(
            key=f"{seed}-{number}",
            at_seconds=number * _SECONDS_BETWEEN_STARTS,
            commands=(0.4,) * _TURNS_OF_STRUCK,
            answer_seconds=0.8,
        )
        for number in range(int(seconds / _SECONDS_BETWEEN_STARTS))
    )
    shape = Shape(seconds / 60, len(works), seconds / len(faults), _STRIKES[FaultKind.FREEZE][0], 0.4)
    return Plan(seed, shape, tuple(faults), works, has_model_faults=False)


def _make_fault(kind: FaultKind, at_seconds: float, shape: Shape, chance: random.Random) -> Fault:
    everything, clocked = _PROGRAMS
    freeze_seconds = _long_tailed(chance, 1.0, shape.longest_freeze_seconds)
    short_seconds = _long_tailed(chance, 0.5, shape.longest_freeze_seconds / 4)
    amount = chance.choice((-1, 1)) * _long_tailed(chance, 1.0, 5_400.0)
    delay_seconds = _long_tailed(chance, 0.02, 2.0)
    program, link, disk = chance.choice(everything), chance.choice(LINKS), chance.choice(DISKS)
    match kind:
        case FaultKind.KILL | FaultKind.RESTART:
            return Fault(at_seconds, kind, program)
        case FaultKind.KILL_TOLD:
            return Fault(at_seconds, kind, chance.choice(RUNNERS))
        case FaultKind.POWER_CUT:
            return Fault(at_seconds, kind, "everything")
        case FaultKind.FREEZE:
            return Fault(at_seconds, kind, program, freeze_seconds)
        case FaultKind.CUT:
            return Fault(at_seconds, kind, link, chance.choice((0.0, short_seconds)))
        case FaultKind.DELAY:
            return Fault(at_seconds, kind, link, short_seconds, delay_seconds)
        case FaultKind.SWALLOW:
            return Fault(at_seconds, kind, link, short_seconds)
        case FaultKind.DISK_FULL:
            return Fault(at_seconds, kind, disk, short_seconds)
        case FaultKind.CLOCK:
            return Fault(at_seconds, kind, chance.choice(clocked), 0.0, amount)


def _make_work(number: int, seed: int, shape: Shape, chance: random.Random) -> Work:
    turns = chance.randint(2, 8)
    commands = [0.0] * turns
    if number % 5 == 0:
        seconds = chance.uniform(0.5, 1.0) * shape.longest_command_seconds
        commands[chance.randrange(turns)] = seconds
    return Work(
        key=f"{seed}-{number}",
        at_seconds=number * shape.seconds * 0.9 / shape.executions,
        commands=tuple(commands),
        parallel=chance.choice((1, 1, 1, 3)),
        answer_seconds=chance.choice((0.0, 0.2, 0.5, 3.0)),
        answer_characters=chance.choice((20, 20, 20, _LARGE_ANSWER_CHARACTERS)),
        cancel_after=chance.randint(2, 12) if chance.random() < 0.04 else None,
    )


def _long_tailed(chance: random.Random, shortest: float, longest: float) -> float:
    """Short more often than long."""
    return round(math.exp(chance.uniform(math.log(shortest), math.log(max(longest, shortest)))), 3)
