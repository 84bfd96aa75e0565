"""The figures of a chaos run: a short table for people, the same as JSON for programs."""

import json
import os
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from chaos.evidence import Evidence, Ran
from chaos.faults import Happened
from chaos.plan import FaultKind, Plan
from chaos.watch import InHand, Sighting
from stigmer_contract.events import ExecutionFailed, LegLost, LegStarted, ToolFinished

QUIET_BEFORE_SECONDS: Final = 3.0
"""A recovery counts as undisturbed where no other fault came so shortly before it, or in it."""
_DEATHS: Final = {
    FaultKind.KILL_TOLD: "known death",
    FaultKind.KILL: "unknown death",
    FaultKind.FREEZE: "hang",
}


@dataclass(frozen=True)
class Recovery:
    """How long one execution stood still after its runner was struck."""

    after: str
    """A known or an unknown death, or a hang."""
    execution_id: str
    at_seconds: float
    seconds: float
    """To the next step: the next event of another leg, or the next question to the model."""
    is_undisturbed: bool
    """Whether no other fault came into it."""


@dataclass(frozen=True)
class Report:
    """Everything that is told of a run."""

    plan: Plan
    evidence: Evidence
    broken: Sequence[str]
    recoveries: Sequence[Recovery]
    seconds: float
    """Of the whole run, with settling."""

    @classmethod
    def of(cls, plan: Plan, evidence: Evidence, broken: Sequence[str], seconds: float) -> "Report":
        """Work the figures out."""
        return cls(plan, evidence, broken, find_recoveries(evidence), seconds)

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "seed": self.plan.seed,
            "minutes_of_faults": self.plan.shape.minutes,
            "seconds": round(self.seconds, 1),
            "load_average": [round(one, 1) for one in os.getloadavg()],
            **_executions(self.evidence.ran),
            **_steps(self.evidence.ran),
            **_faults(self.evidence.happened),
            "recoveries": {
                f"{after}{which}": _figures(
                    [
                        one.seconds
                        for one in self.recoveries
                        if one.after == after and (one.is_undisturbed or not which)
                    ]
                )
                for after in _DEATHS.values()
                for which in ("", ", undisturbed")
            },
            "slowest_recoveries": [
                asdict(one) for one in sorted(self.recoveries, key=lambda one: -one.seconds)[:10]
            ],
            "broken_invariants": list(self.broken),
            "timelines_of_broken": {
                one.execution_id: _timeline(one, self.evidence)
                for one in self.evidence.ran
                if any(line.startswith(one.execution_id) for line in self.broken)
            },
        }

    def write(self, path: Path) -> None:
        """As JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")

    def lines(self) -> Iterable[str]:
        """For people."""
        figures = self.to_json()
        length = f"{figures['minutes_of_faults']:g} min of faults, {figures['seconds']:g} s in all"
        load = ", ".join(map(str, figures["load_average"]))
        yield f"chaos, seed {figures['seed']}, {length}, load at the end {load}"
        yield f"  executions       {figures['executions']}: {_counts(figures['executions_by_end'])}"
        for failure in figures["failures"]:
            yield f"                   {failure}"
        yield f"  faults           {figures['faults']}: {_counts(figures['faults_by_kind'])}"
        yield f"  legs             {figures['legs']}, lost: {_counts(figures['legs_lost_by_cause'])}"
        yield f"  commands         {_counts(figures['commands_by_outcome'])}"
        again = figures["answers_paid_again"]
        yield f"  answers          {figures['answers']}, paid again for a fault: {again}"
        for name, one in figures["recoveries"].items():
            if one["count"]:
                times = f"p50 {one['p50']:.2f} s, p95 {one['p95']:.2f} s, longest {one['longest']:.2f} s"
                yield f"  after a {name:<28} {one['count']:>4}: {times}"
        yield f"  broken           {len(self.broken)}"
        for line in self.broken:
            yield f"    {line}"


def _executions(ran: Sequence[Ran]) -> dict[str, Any]:
    ends = [one.log[-1].event for one in ran if one.log]
    return {
        "executions": len(ran),
        "executions_by_end": dict(Counter(one.phase for one in ran)),
        "failures": [f"{end.code}: {end.message}" for end in ends if isinstance(end, ExecutionFailed)],
        "events": sum(len(one.log) for one in ran),
        "streams_given_up": sum(one.told.gave_up for one in ran),
    }


def _steps(ran: Sequence[Ran]) -> dict[str, Any]:
    events = [recorded.event for one in ran for recorded in one.log]
    paid = [asking for one in ran for asking in one.askings if asking.is_paid]
    answered = len({(asking.conversation, asking.turn) for asking in paid})
    outcomes = Counter(event.outcome.value for event in events if isinstance(event, ToolFinished))
    return {
        "legs": sum(isinstance(event, LegStarted) for event in events),
        "legs_lost_by_cause": dict(Counter(one.cause.value for one in events if isinstance(one, LegLost))),
        "commands_by_outcome": dict(outcomes),
        "answers": answered,
        "answers_paid": len(paid),
        "answers_paid_again": len(paid) - answered,
    }


def _faults(happened: Sequence[Happened]) -> dict[str, Any]:
    return {
        "faults": len(happened),
        "faults_by_kind": dict(sorted(Counter(one.fault.kind.value for one in happened).items())),
        "schedule": [{**asdict(one.fault), "met_executions": len(one.in_hand)} for one in happened],
    }


def find_recoveries(evidence: Evidence) -> list[Recovery]:
    """How long each execution stood still that a runner had in hand when it died or hung."""
    ran = {one.execution_id: one for one in evidence.ran}
    recoveries = list[Recovery]()
    for happened in evidence.happened:
        after = _DEATHS.get(happened.fault.kind)
        for held in happened.in_hand if after is not None else ():
            next_step_at = _next_step_at(ran.get(held.execution_id), held, happened.began_at, evidence)
            if next_step_at is not None and after is not None:
                recoveries.append(
                    Recovery(
                        after,
                        held.execution_id,
                        round(happened.began_at - evidence.started_at, 1),
                        next_step_at - happened.began_at,
                        _is_undisturbed(happened, next_step_at, evidence.happened),
                    )
                )
    return recoveries


def _next_step_at(ran: Ran | None, held: InHand, struck_at: float, evidence: Evidence) -> float | None:
    """When another leg took its first step; None where the struck one went on by itself."""
    if ran is None:
        return None
    attempt = held.attempt
    sightings = evidence.watch.sightings[held.execution_id]
    taken = next((one for one in sightings if one.attempt > attempt), None)
    step = next(
        (
            recorded.sequence
            for recorded in ran.log
            if (recorded.attempt or 0) > attempt and not isinstance(recorded.event, LegStarted)
        ),
        None,
    )
    if taken is None or step is None:
        return None
    written_at = _first_at(sightings, step) or evidence.watch.ended_at.get(held.execution_id)
    asked_at = [
        one.began_at for one in ran.askings if one.began_at > struck_at and one.began_at > taken.at - 0.2
    ]
    times = [at for at in (written_at, *asked_at[:1]) if at is not None and at > struck_at]
    return min(times, default=None)


def _first_at(sightings: Sequence[Sighting], sequence: int) -> float | None:
    return next((one.at for one in sightings if one.last_sequence >= sequence), None)


def _is_undisturbed(happened: Happened, recovered_at: float, others: Sequence[Happened]) -> bool:
    return not any(
        other.began_at < recovered_at and other.ended_at + QUIET_BEFORE_SECONDS > happened.began_at
        for other in others
        if other is not happened and other.fault.kind is not FaultKind.CLOCK
    )


def _timeline(ran: Ran, evidence: Evidence) -> list[str]:
    """What happened to one execution, in seconds after the start, as far as it was seen."""
    lines = [
        (one.began_at, f"turn {one.turn} was asked for by {one.runner} ({one.fault or 'answered'})")
        for one in ran.askings
    ]
    sightings = evidence.watch.sightings[ran.execution_id]
    for recorded in ran.log:
        at = _first_at(sightings, recorded.sequence) or evidence.watch.ended_at.get(ran.execution_id, 0.0)
        lines.append((at, f"{recorded.sequence} {recorded.event.type} of attempt {recorded.attempt}"))
    return [f"{at - evidence.started_at:.1f} {text}" for at, text in sorted(lines)]


def _figures(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"count": 0}
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "p50": round(statistics.median(ordered), 3),
        "p95": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 3),
        "longest": round(ordered[-1], 3),
    }


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
