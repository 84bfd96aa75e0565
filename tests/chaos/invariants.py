"""What must hold after a chaos run, whatever went wrong meanwhile. Judges; the reading is `evidence`'s work.

Each check gives one line for each execution that breaks it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from chaos.evidence import ENDS, Evidence, Ran, lost_answers
from chaos.faults import Happened
from chaos.plan import MODEL
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    LegStarted,
    ModelResponded,
    RecordedEvent,
    ToolFinished,
    ToolOutcome,
    ToolStarted,
    UnknownEvent,
)

TRUTHFUL_FAILURES: Final = frozenset({ErrorCode.MODEL_UNAVAILABLE})
"""Besides completed and cancelled, an execution may end so; and only where its model was hit."""


def broken_invariants(evidence: Evidence) -> list[str]:
    """One line for each thing that does not hold."""
    lines = list[str]()
    for ran in evidence.ran:
        # Of those that have not ended, `left_behind` tells.
        for check in _OF_EACH if ran.has_ended else _OF_UNENDED:
            lines += [f"{ran.execution_id}: {line}" for line in check(ran, evidence)]
    lines += evidence.left_behind
    return lines


def _has_no_gap(ran: Ran, evidence: Evidence) -> Iterator[str]:
    sequences = [recorded.sequence for recorded in ran.log]
    if sequences != list(range(1, len(sequences) + 1)):
        yield f"the sequences of the log have a gap or a double: {sequences}"


def _was_told_each_event_once(ran: Ran, evidence: Evidence) -> Iterator[str]:
    if ran.told.problem is not None:
        yield f"the client failed: {ran.told.problem}"
    elif ran.told.sequences != [recorded.sequence for recorded in ran.log]:
        yield f"the log has {len(ran.log)} events, who followed it got {ran.told.sequences}"


def _ends_once_and_truthfully(ran: Ran, evidence: Evidence) -> Iterator[str]:
    ends = [recorded.event for recorded in ran.log if isinstance(recorded.event, ENDS)]
    if len(ends) != 1 or ran.log[-1].event is not ends[0]:
        yield f"it has {len(ends)} final events; the log ends with {ran.log[-1].event.type}"
        return
    [end] = ends
    if ran.phase != end.type.removeprefix("execution."):
        yield f"the list says {ran.phase}, the log {end.type}"
    if isinstance(end, ExecutionFailed):
        is_true = end.code in TRUTHFUL_FAILURES and any(_hit_model(one) for one in evidence.happened)
        if not is_true:
            yield f"it failed with {end.code}: {end.message}"
    if (
        isinstance(end, ExecutionCancelled)
        and not ran.told.is_cancelled
        and ran.told.work.cancel_after is None
    ):
        yield "it was cancelled, and nobody asked for that"


def _hit_model(happened: Happened) -> bool:
    return happened.fault.target.endswith(f">{MODEL}")


def _answers_each_turn_once(ran: Ran, evidence: Evidence) -> Iterator[str]:
    turns = [recorded.event.turn for recorded in ran.log if isinstance(recorded.event, ModelResponded)]
    if turns != list(range(1, len(turns) + 1)):
        yield f"answered turns are {turns}"
    if isinstance(ran.log[-1].event, ExecutionCompleted) and len(turns) != len(ran.told.work.commands) + 1:
        yield f"it is completed after {len(turns)} turns of {len(ran.told.work.commands) + 1}"


def _is_written_by_its_newest_attempt(ran: Ran, evidence: Evidence) -> Iterator[str]:
    newest = 0
    for recorded in ran.log:
        if isinstance(recorded.event, LegStarted):
            if recorded.event.attempt != newest + 1:
                yield f"attempt {recorded.event.attempt} follows {newest}"
            newest = recorded.event.attempt
        elif recorded.attempt is not None and recorded.attempt != newest:
            yield f"event {recorded.sequence} was written by attempt {recorded.attempt} under {newest}"


def _pays_no_answer_twice_without_a_fault(ran: Ran, evidence: Evidence) -> Iterator[str]:
    for turn, asked in ran.askings_by_turn().items():
        paid = [asking for asking in asked if asking.is_paid]
        lost = lost_answers(ran, turn, evidence)
        if len(paid) - 1 > len(lost):
            yield (
                f"turn {turn} was paid {len(paid)} times, and {len(lost)} of these answers were lost: "
                f"{[(one.runner, one.fault, round(one.began_at - evidence.started_at, 1)) for one in paid]}"
            )


def _runs_each_command_once(ran: Ran, evidence: Evidence) -> Iterator[str]:
    began = Counter(mark.removeprefix("began-") for mark in ran.marks if mark.startswith("began-"))
    ended = Counter(mark.removeprefix("ended-") for mark in ran.marks if mark.startswith("ended-"))
    outcomes = _outcomes(ran.log)
    for mark in began.keys() | ended.keys() | outcomes.keys():
        outcome = outcomes.get(mark)
        if began[mark] > 1 or ended[mark] > began[mark]:
            yield f"command {mark} began {began[mark]} times and ended {ended[mark]} times ({outcome})"
        elif outcome is ToolOutcome.SUCCEEDED and (began[mark], ended[mark]) != (1, 1):
            yield f"command {mark} succeeded, but began {began[mark]} times and ended {ended[mark]} times"
        elif outcome is None and began[mark]:
            yield f"command {mark} began, and the log has no outcome of it"
        elif outcome is ToolOutcome.FAILED:
            yield f"command {mark} failed: {ran.result_of(mark)}"


def _outcomes(log: Sequence[RecordedEvent]) -> dict[str, ToolOutcome]:
    """By the mark of the command, `turn-number`; the number stands at the end of the model's call id."""
    return {
        f"{event.turn}-{event.call_id.rpartition('_')[2]}": event.outcome
        for event in (recorded.event for recorded in log)
        if isinstance(event, ToolFinished)
    }


def _knows_all_events(ran: Ran, evidence: Evidence) -> Iterator[str]:
    for recorded in ran.log:
        if isinstance(recorded.event, UnknownEvent):
            yield f"event {recorded.sequence} cannot be read: {recorded.event.type}"


def _starts_no_call_twice(ran: Ran, evidence: Evidence) -> Iterator[str]:
    starts = Counter(
        (recorded.event.turn, recorded.event.call_id, recorded.event.nth)
        for recorded in ran.log
        if isinstance(recorded.event, ToolStarted)
    )
    for call, times in starts.items():
        if times > 1:
            yield f"call {call} was started {times} times"


Check = Callable[[Ran, Evidence], Iterable[str]]
_OF_EACH: Final[tuple[Check, ...]] = (
    _has_no_gap,
    _was_told_each_event_once,
    _ends_once_and_truthfully,
    _answers_each_turn_once,
    _is_written_by_its_newest_attempt,
    _pays_no_answer_twice_without_a_fault,
    _runs_each_command_once,
    _knows_all_events,
    _starts_no_call_twice,
)
_OF_UNENDED: Final[tuple[Check, ...]] = (
    _has_no_gap,
    _answers_each_turn_once,
    _is_written_by_its_newest_attempt,
    _pays_no_answer_twice_without_a_fault,
    _knows_all_events,
    _starts_no_call_twice,
)
