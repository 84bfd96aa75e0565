"""How long a model that is away is waited for, and when it is asked again: the rules, without any clock."""

from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from agent_runner.errors import ExecutionFailure
from agent_runner.journal.patience import LEG_PATIENCE, Failures, after_failure
from agent_runner.models import ModelFault, Retry
from stigmer_contract.error_codes import ErrorCode

START = datetime(2026, 1, 1, tzinfo=UTC)
Patience = timedelta | Literal["forever"] | None


def fault(
    *, retry_after: float | None = None, is_away: bool = True, retry: Retry = Retry.OFTEN
) -> ModelFault:
    return ModelFault(
        retry, retry_after, ErrorCode.MODEL_UNAVAILABLE, "model 'm' failed: 503: overloaded", is_away=is_away
    )


def fail_until_over(
    patience: Patience, failing: ModelFault, *, most: int = 1000
) -> tuple[list[Failures], ExecutionFailure | None]:
    """What holds after each failure, each try being made when it is due; and how it ended, if it did."""
    failures, now, found = Failures(), START, list[Failures]()
    for _ in range(most):
        try:
            failures = after_failure(failures, failing, now, patience)
        except ExecutionFailure as end:
            return found, end
        found.append(failures)
        assert failures.next_try_at is not None
        now = failures.next_try_at
    return found, None


def test_a_model_is_waited_for_half_an_hour_with_few_requests_and_its_own_last_reason() -> None:
    for _ in range(50):
        found, end = fail_until_over(None, fault())

        assert end is not None
        assert end.code is ErrorCode.MODEL_UNAVAILABLE
        assert end.message == f"model 'm' failed: 503: overloaded (asked {len(found) + 1} times in 30m)"
        assert found[-1].next_try_at == START + timedelta(minutes=30)
        assert len(found) + 1 <= 16
        assert sum(each.holds_leg for each in found) + 1 <= Retry.OFTEN


def test_the_leg_waits_for_a_minute_and_holds_nothing_afterwards() -> None:
    found, _ = fail_until_over("forever", fault(), most=40)

    held = [each for each in found if each.holds_leg]
    assert held == found[: len(held)]
    assert all(each.next_try_at is not None and each.next_try_at <= START + LEG_PATIENCE for each in held)
    pauses = [
        after.next_try_at - before.next_try_at
        for before, after in zip(found[len(held) :], found[len(held) + 1 :], strict=False)
        if after.next_try_at is not None and before.next_try_at is not None
    ]
    assert all(timedelta(minutes=1) <= pause <= timedelta(minutes=11) for pause in pauses)


def test_forever_has_no_end() -> None:
    assert fail_until_over("forever", fault(), most=500)[1] is None


@pytest.mark.parametrize("patience", [None, "forever", timedelta(hours=2)])
def test_what_the_provider_asks_for_is_honoured(patience: Patience) -> None:
    failures = after_failure(Failures(), fault(retry_after=3600), START, patience)

    assert failures.next_try_at is not None
    assert timedelta(hours=1) <= failures.next_try_at - START <= timedelta(hours=1, seconds=1)
    assert not failures.holds_leg


def test_a_provider_that_asks_for_longer_than_the_agent_may_wait_ends_it_at_once() -> None:
    with pytest.raises(ExecutionFailure) as ended:
        after_failure(Failures(), fault(retry_after=3600), START, timedelta(minutes=10))

    assert ended.value.message == (
        "model 'm' failed: 503: overloaded; it asks to be left alone for 1h, longer than the agent may wait "
        "for it"
    )


@pytest.mark.parametrize("retry", [Retry.NEVER, Retry.ODD, Retry.OFTEN])
def test_answers_that_were_begun_are_asked_for_a_few_times_only(retry: Retry) -> None:
    found, end = fail_until_over("forever", fault(is_away=False, retry=retry))

    assert end is not None
    assert len(found) + 1 == retry
