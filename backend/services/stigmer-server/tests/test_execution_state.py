"""What a log says about its execution, whatever its events are."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionRetried,
    InlinePayload,
    InputRequested,
    InputResolved,
    LegEnded,
    LegEndReason,
    LegStarted,
    ModelResponded,
    Usage,
)
from stigmer_contract.identifiers import INPUT_PREFIX, new_id
from stigmer_contract.inputs import InputKind, InputOutcome
from stigmer_contract.phases import ExecutionPhase, is_legal_move
from stigmer_server.errors import IllegalMove
from stigmer_server.execution_state import ExecutionState, Moment, advance

CREATED = datetime(2026, 11, 22, 12, tzinfo=UTC)
AT_ONCE = Moment(CREATED, CREATED)
PAYLOAD = InlinePayload(value={})
INPUT_ID = new_id(INPUT_PREFIX)
USAGE = Usage(requests=1, input_tokens=3)

EVENTS: list[Event] = [
    LegStarted(attempt=1, runner="1@a", runner_version="0"),
    LegEnded(attempt=1, reason=LegEndReason.DRAINED),
    ModelResponded(turn=1, model="replay:x", response=PAYLOAD, usage=USAGE, duration_seconds=1),
    InputRequested(
        input_id=INPUT_ID, kind=InputKind.APPROVAL, turn=1, call_id="c", tool="x", title="x", content=PAYLOAD
    ),
    InputResolved(input_id=INPUT_ID, outcome=InputOutcome.APPROVED, resolved_by="me"),
    ExecutionCompleted(output=PAYLOAD),
    ExecutionFailed(code=ErrorCode.INTERNAL, message="broken"),
    ExecutionCancelled(reason="enough"),
]


def fresh() -> ExecutionState:
    return ExecutionState("exe_1", "ses_1", "agent", None, CREATED, None)


@given(st.lists(st.sampled_from(EVENTS), max_size=12))
def test_a_log_moves_only_as_the_contract_allows_and_stays_where_it_ended(events: list[Event]) -> None:
    state = fresh()
    for number, event in enumerate(events):
        at = CREATED + timedelta(seconds=number)
        try:
            following = advance(state, [event], Moment(at, at))
        except IllegalMove:
            continue
        assert not state.phase.is_terminal
        assert is_legal_move(state.phase, following.phase)
        assert following.last_sequence == state.last_sequence + 1
        assert (following.ended_at == at) is following.phase.is_terminal
        state = following
    assert (state.phase is ExecutionPhase.COMPLETED) is (state.output is not None)
    assert (state.phase is ExecutionPhase.FAILED) is (state.error is not None)
    assert state.usage.input_tokens == 3 * state.usage.requests


@given(st.lists(st.sampled_from(EVENTS), max_size=8))
def test_events_appended_together_lead_where_they_lead_one_by_one(events: list[Event]) -> None:
    state, refused = fresh(), False
    for event in events:
        try:
            state = advance(state, [event], AT_ONCE)
        except IllegalMove:
            refused = True
            break

    try:
        together = advance(fresh(), events, AT_ONCE)
    except IllegalMove:
        assert refused
    else:
        assert together == state


def test_a_clock_that_begins_anew_behind_takes_nothing_from_the_duration_of_what_is_retried() -> None:
    """As that of a machine whose next start came with a wrong wall clock."""
    deadline = CREATED + timedelta(hours=1)
    failure = ExecutionFailed(code=ErrorCode.INTERNAL, message="broken")
    failed = advance(replace(fresh(), deadline_at=deadline), [EVENTS[0], failure], AT_ONCE)

    before = CREATED - timedelta(days=1)
    assert advance(failed, [ExecutionRetried()], Moment(before, before)).deadline_at == deadline
