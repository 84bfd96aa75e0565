"""An execution of many windows' length: nobody hears of the window, and nothing is paid for twice.

The short form runs in CI; `make long-conversation` takes 500 turns and ten kills.
"""

import hashlib
import itertools
import os
from collections.abc import Iterator
from typing import Any, Final

import pytest

from e2e_script import QUICK_HEARTBEAT
from executions import Execution, agent_manifest, answered_turns
from model_server import VALID_KEY
from running_stack import RunningStack
from stigmer_contract.compaction import Compaction, CompactionCause, WindowSource
from stigmer_contract.events import InlinePayload, LegStarted, ModelResponded, StepFinished
from windowed_model import WindowedModel

TURNS: Final = int(os.environ.get("STIGMER_TEST_TURNS", "28"))
KILLS: Final = int(os.environ.get("STIGMER_TEST_KILLS", "2"))
WINDOW_TOKENS: Final = 32_000
OUTPUT: Final = "head -c 7000 /dev/zero | tr '\\0' x"

pytestmark = [pytest.mark.timeout(600 + 10 * TURNS), pytest.mark.xdist_group("long-conversations")]


@pytest.fixture(scope="module")
def model() -> Iterator[WindowedModel]:
    with WindowedModel(window_tokens=WINDOW_TOKENS, turns=TURNS, command=OUTPUT) as server:
        yield server


@pytest.fixture(scope="module")
def stack(model: WindowedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    environment = {"STIGMER_LLM_BASE_URL": model.url, "STIGMER_LLM_API_KEY": VALID_KEY}
    with RunningStack(
        tmp_path_factory.mktemp("long"), server_environment=QUICK_HEARTBEAT, runner_environment=environment
    ) as running:
        yield running


def manifest(**context: Any) -> dict[str, Any]:
    made = agent_manifest(model="openai-compatible:windowed", limits={"turns": TURNS + 10})
    made["spec"]["context"] = context
    return made


def compactions_of(execution: Execution) -> list[Compaction]:
    return [
        Compaction.model_validate(event.result.value)
        for event in execution.events
        if isinstance(event, StepFinished)
        and event.kind == "compact"
        and isinstance(event.result, InlinePayload)
    ]


def changed_prefixes(prompts: list[str]) -> int:
    """How many requests do not begin with all that the one before had."""
    return sum(
        _digest(after[: len(before) - 1]) != _digest(before[:-1])
        for before, after in itertools.pairwise(prompts)
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_many_turns_in_a_small_window_with_runners_that_die(
    stack: RunningStack, model: WindowedModel
) -> None:
    execution = Execution.start(stack, manifest(tools="keep"), "First task: count. Never stop early.")
    for kill in range(KILLS):
        turn = (kill + 1) * TURNS // (KILLS + 1)
        execution.wait_for(
            lambda recorded, turn=turn: (
                isinstance(recorded.event, ModelResponded) and recorded.event.turn >= turn
            )
        )
        stack.kill_runner(stack.runners[-1])
        stack.start_runner(f"after-{kill}")
    execution.wait_until_completed()

    compactions = compactions_of(execution)
    assert answered_turns(execution.events) == list(range(1, TURNS + 2))
    assert sum(isinstance(event, LegStarted) for event in execution.events) > KILLS
    assert model.refused == []
    assert max(model.sizes) < WINDOW_TOKENS
    assert len(compactions) >= TURNS // 20
    assert {each.window_source for each in compactions} == {WindowSource.ASSUMED}
    # A request that was on its way when a runner died is made again; what is in the log was paid for once.
    assert sum(model.summaries.values()) - len(compactions) <= KILLS
    assert sum(model.paid.values()) - (TURNS + 1) <= KILLS
    assert all("First task: count. Never stop early." in prompt for prompt in model.prompts)
    # What was asked before stays as it was, byte for byte, but where the conversation was compacted.
    assert changed_prefixes(model.prompts) <= len(compactions)
    usage = execution.resource.usage
    assert usage.requests == TURNS + 1
    assert usage.cache_read_tokens > 0.5 * usage.input_tokens

    asked = len(model.prompts)
    later = Execution.start(stack, manifest(tools="keep"), "Thanks.", session_id=execution.session_id)
    later.wait_for(lambda recorded: isinstance(recorded.event, ModelResponded))
    later.cancel()
    later.wait_until_ended()
    assert changed_prefixes(model.prompts[asked - 1 : asked + 1]) <= len(compactions_of(later))


def test_a_person_may_have_a_session_compacted(stack: RunningStack, model: WindowedModel) -> None:
    first = Execution.start(stack, manifest(window=1_000_000), "Count, and be kind.")
    first.wait_for(lambda recorded: isinstance(recorded.event, ModelResponded) and recorded.event.turn == 4)
    first.cancel()
    first.wait_until_ended()

    response = stack.client.post(f"/v1/sessions/{first.session_id}/compact")
    assert response.json()["compaction_asked_at"] is not None
    second = Execution.start(stack, manifest(window=1_000_000), "Thanks.", session_id=first.session_id)
    second.wait_for(lambda recorded: isinstance(recorded.event, ModelResponded))
    second.cancel()
    second.wait_until_ended()

    [compaction] = compactions_of(second)
    assert compaction.cause is CompactionCause.ASKED
    assert compaction.summary == model.summary
    assert compaction.tokens_after < compaction.tokens_before
    assert "Count, and be kind." in (compaction.text or "")
    assert stack.client.get(f"/v1/sessions/{first.session_id}").json()["compaction_asked_at"] is None


def test_a_window_that_only_the_provider_knows_is_learned_from_its_refusal(
    stack: RunningStack, model: WindowedModel
) -> None:
    refused = len(model.refused)
    execution = Execution.start(stack, manifest(window=1_000_000), "Count.")
    execution.wait_until_completed()

    compactions = compactions_of(execution)
    # Once by each process that has not heard of it yet.
    assert 1 <= len(model.refused) - refused <= 2
    assert (compactions[0].window_source, compactions[0].window_tokens) == (WindowSource.ERROR, WINDOW_TOKENS)
    assert compactions[0].results_cleared > 0
