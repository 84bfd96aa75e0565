"""A session's later executions, and a later leg, go on from exactly what the model was shown."""

import base64
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from e2e_script import QUICK_HEARTBEAT
from executions import Execution, agent_manifest, answered_turns, inline, tool_results, waits
from model_server import VALID_KEY, ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from running_stack import RunningStack
from stigmer_contract.events import (
    HistoryStored,
    LegEnded,
    ModelInterrupted,
    ModelResponded,
    ToolOutcome,
    ToolStarted,
)
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.waits import WaitKind

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("history")]

TURNS: Final = 45
PNG: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
MODEL: Final = "openai-compatible:gpt-5"


def script() -> ScriptedModel:
    command = ScriptedCall("run_command", {"command": "echo turn-{turn} >> done.txt"})
    picture = ScriptedCall("read_file", {"path": "logo.png"})
    wrong = ScriptedCall("fly", {"to": "the moon"})
    turns = [
        ScriptedTurn("A picture.", [picture, command]),
        ScriptedTurn("", [wrong, command]),
        *(ScriptedTurn("Working on {turn}.", [command]) for _ in range(TURNS - 3)),
        ScriptedTurn("All is done."),
    ]
    sleep = ScriptedCall("run_command", {"command": "touch begun; sleep 60"})
    return ScriptedModel(
        turns,
        conversations={
            "short": [ScriptedTurn("Hm.", [sleep])],
            "ok": [ScriptedTurn("Ok.")],
            "slow": [ScriptedTurn("Once upon a time " + "and so on " * 2000, chunk_seconds=0.1)],
        },
    )


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with ModelServer(script()) as server:
        yield server


@pytest.fixture(scope="module")
def stack(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    environment = {"STIGMER_LLM_BASE_URL": model.url, "STIGMER_LLM_API_KEY": VALID_KEY}
    with RunningStack(
        tmp_path_factory.mktemp("history"),
        server_environment=QUICK_HEARTBEAT,
        runner_environment=environment,
    ) as running:
        yield running


def start(stack: RunningStack, prompt: str, **more: str) -> Execution:
    return Execution.start(stack, agent_manifest(model=MODEL), prompt, **more)


def asked(model: ModelServer, since: int) -> list[list[dict[str, Any]]]:
    """The messages of each request since then."""
    return [body["messages"] for body in model.bodies[since:]]


def assert_each_extends_the_one_before(requests: list[list[dict[str, Any]]]) -> None:
    for before, after in itertools.pairwise(requests):
        assert json.dumps(after[: len(before)]) == json.dumps(before)


def test_a_later_leg_and_a_later_execution_ask_exactly_what_was_asked_before_and_more(
    stack: RunningStack, model: ModelServer, tmp_path: Path
) -> None:
    (tmp_path / "logo.png").write_bytes(PNG)
    since = len(model.bodies)
    first = start(stack, "Work. [conversation long]", workspace=str(tmp_path))
    runner = stack.runners[-1]
    first.wait_for(lambda recorded: isinstance(recorded.event, ModelResponded) and recorded.event.turn == 30)
    stack.kill_runner(runner)
    stack.start_runner("second")
    first.wait_until_completed()
    asked_first = sum(model.asked["long", turn] for turn in range(1, TURNS + 1))
    done = (tmp_path / "done.txt").read_text(encoding="utf-8").split()
    second = start(stack, "Thanks. [conversation long]", session_id=first.session_id)
    second.wait_until_completed()

    pieces = [event for event in first.events if isinstance(event, HistoryStored)]
    assert answered_turns(first.events) == list(range(1, TURNS + 1))
    assert asked_first <= TURNS + 1
    assert len(done) - len(set(done)) == 0
    assert [piece.turn for piece in pieces] == [20, 40, TURNS]
    assert [piece.replaces for piece in pieces] == [True, False, False]
    assert pieces[-1].usage == first.resource.usage
    requests = asked(model, since)
    assert_each_extends_the_one_before(requests)
    long = [message for message in requests[-1] if len(json.dumps(message)) > 1000]
    assert not [message for message in long if message["role"] != "system"]
    assert "image_url" in json.dumps(requests[-1])


def test_an_execution_that_was_cancelled_is_told_as_it_was_to_the_next_ones(
    stack: RunningStack, model: ModelServer, tmp_path: Path
) -> None:
    since = len(model.bodies)
    first = start(stack, "Sleep. [conversation short]", workspace=str(tmp_path))
    first.wait_for(lambda recorded: isinstance(recorded.event, ToolStarted))
    first.cancel()
    assert first.wait_until_ended().phase is ExecutionPhase.CANCELLED
    for prompt in ("Go on. [conversation ok]", "And on. [conversation ok]"):
        start(stack, prompt, session_id=first.session_id).wait_until_completed()

    [result] = tool_results(first.events)
    requests = asked(model, since)
    told = next(message for message in requests[1] if message["role"] == "tool")
    assert result.outcome is ToolOutcome.UNKNOWN
    assert "not carried out" not in told["content"]
    assert_each_extends_the_one_before(requests)
    history = [event for event in first.events if isinstance(event, HistoryStored)]
    assert history == []


def test_what_was_said_until_an_interruption_stays_in_the_conversation_as_cut_off(
    stack: RunningStack, model: ModelServer
) -> None:
    since = len(model.bodies)
    first = start(stack, "Tell me a tale. [conversation slow]")
    first.wait_until_shown("Once upon a")
    first.cancel()
    assert first.wait_until_ended().phase is ExecutionPhase.CANCELLED
    start(stack, "Stop it. [conversation ok]", session_id=first.session_id).wait_until_completed()

    [cut] = [event for event in first.events if isinstance(event, ModelInterrupted)]
    said = str(inline(cut.text))
    assert said.startswith("Once upon a")
    assert first.resource.usage == cut.usage
    told = asked(model, since)[-1]
    answered = next(message for message in told if message["role"] == "assistant")
    assert answered["content"] == said.rstrip()
    after = json.dumps(told[told.index(answered) + 1 :])
    assert "stopped you here" in after
    assert "Stop it." in after


def test_a_paused_execution_waits_without_a_runner_and_goes_on_where_it_stood(
    stack: RunningStack, tmp_path: Path
) -> None:
    execution = start(stack, "Work. [conversation paused]", workspace=str(tmp_path))
    execution.wait_for(lambda recorded: isinstance(recorded.event, ModelResponded))
    execution.post("pause")
    rests = execution.wait_for(waits)
    assert isinstance(rests.event, LegEnded)
    assert [reason.kind for reason in rests.event.waiting_for] == [WaitKind.PAUSE]
    turns = answered_turns(execution.events)
    assert len(turns) < TURNS
    assert execution.resource.phase is ExecutionPhase.WAITING
    execution.post("resume")
    execution.wait_until_completed()
    assert answered_turns(execution.events) == list(range(1, TURNS + 1))
    done = (tmp_path / "done.txt").read_text(encoding="utf-8").split()
    assert len(done) == len(set(done))
