"""Figures with their bounds, as a table; and what a stack's programs take of the processors meanwhile."""

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import psutil

_NAME_WIDTH: Final = 62
_VALUE_WIDTH: Final = 26


@dataclass(frozen=True)
class Bound:
    """What the project promises of a figure."""

    limit: float
    text: str
    """As the table shows it, such as `<= 400 ms`."""
    at_least: bool = False
    """The figure must not be below the limit, instead of not above."""

    def is_kept_by(self, value: float) -> bool:
        """Whether the figure is as promised."""
        return value >= self.limit if self.at_least else value <= self.limit


class Table:
    """Prints a row as soon as its figure is known, and remembers what was missed."""

    def __init__(self) -> None:
        """Prints the head."""
        self.missed: list[str] = []
        print(f"{'figure':<{_NAME_WIDTH}} | {'measured':>{_VALUE_WIDTH}} | bound")
        print(f"{'-' * _NAME_WIDTH}-|-{'-' * _VALUE_WIDTH}-|-{'-' * 30}", flush=True)

    def add(self, name: str, measured: str, value: float | None = None, bound: Bound | None = None) -> None:
        """One row; `value` is what is held against `bound`."""
        said = ""
        if bound is not None:
            assert value is not None
            kept = bound.is_kept_by(value)
            said = bound.text if kept else f"{bound.text}  ** MISSED **"
            if not kept:
                self.missed.append(name)
        print(f"{name:<{_NAME_WIDTH}} | {measured:>{_VALUE_WIDTH}} | {said}".rstrip(), flush=True)

    def conclude(self) -> None:
        """One line that says how it went."""
        print(f"\n{len(self.missed)} bound(s) missed{': ' if self.missed else ''}{'; '.join(self.missed)}")


class ProcessorTime:
    """What programs take of the processors from now on."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        """`pids` by the program's name. Children count with their parent."""
        self._pids = dict(pids)
        self._before = {name: _cpu_seconds(pid) for name, pid in self._pids.items()}
        self._started = time.perf_counter()

    def rows(self, executions: int) -> list[tuple[str, str]]:
        """By program, and for all together: milliseconds an execution, and the share of the machine."""
        seconds = time.perf_counter() - self._started
        used = {name: _cpu_seconds(pid) - self._before[name] for name, pid in self._pids.items()}
        used["all together"] = sum(used.values())
        machine = seconds * (os.cpu_count() or 1)
        return [
            (name, f"{cpu / executions * 1000:.0f} ms, {cpu / machine:.0%} of machine")
            for name, cpu in used.items()
        ]


def _cpu_seconds(pid: int) -> float:
    process = psutil.Process(pid)
    family = [process] if pid == os.getpid() else [process, *process.children(recursive=True)]
    return sum(times.user + times.system for times in (member.cpu_times() for member in family))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least that share does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def milliseconds(values: Sequence[float]) -> str:
    """Median and the slowest twentieth."""
    return f"{statistics.median(values) * 1000:.0f} ms (p95 {percentile(values, 0.95) * 1000:.0f})"
