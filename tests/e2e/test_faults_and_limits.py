"""Broken models, limits, cancellation and privacy, through the whole stack."""

import itertools
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from e2e_script import QUICK_HEARTBEAT, runner_environment
from executions import Execution, agent_manifest, answered_turns, inline, tool_results, tool_starts
from model_server import Fault, ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from running_stack import RunningStack
from stack_home import wait_until
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    INLINE_PAYLOAD_MAX_BYTES,
    BlobPayload,
    ExecutionFailed,
    HistoryStored,
    LegEnded,
    LegStarted,
    ModelFailed,
    ModelResponded,
    RecordedEvent,
    ToolFinished,
    ToolOutcome,
    ToolStarted,
    Usage,
)
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.waits import WaitKind

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("faults")]

CANARY = "canary-7f3a91"
"""Stands in a prompt, an answer and a tool's output, and must stand nowhere that it does not belong."""


def conversation(name: str) -> tuple[str, str]:
    """A fresh key for the script called `name`, and the prompt that carries it."""
    return name, f"Do it. [conversation {name}]"


SCRIPTS: dict[str, list[ScriptedTurn]] = {
    "plain": [ScriptedTurn(text="first"), ScriptedTurn(text="second")],
    "unknown-tool": [
        ScriptedTurn(calls=[ScriptedCall("no_such_tool", {})]),
        ScriptedTurn(calls=[ScriptedCall("run_command", {"comand": "true"})]),
        ScriptedTurn(text="I know better now."),
    ],
    "endless": [ScriptedTurn(calls=[ScriptedCall("run_command", {"command": "true"})])],
    "sleeper": [
        ScriptedTurn(
            calls=[
                ScriptedCall("run_command", {"command": "echo $$ > pid; (setsid sleep 600 &) ; sleep 600"})
            ]
        ),
        ScriptedTurn(text="It did not end by itself."),
    ],
    "large": [
        ScriptedTurn(calls=[ScriptedCall("write_file", {"path": "large.txt", "content": "x" * 100_000})]),
        ScriptedTurn(text="Written."),
    ],
    "private": [
        ScriptedTurn(
            text=f"answer {CANARY}", calls=[ScriptedCall("run_command", {"command": f"echo output {CANARY}"})]
        ),
        ScriptedTurn(text=f"done {CANARY}"),
    ],
    "escape": [
        ScriptedTurn(calls=[ScriptedCall("read_file", {"path": "../../../../etc/passwd"})]),
        ScriptedTurn(calls=[ScriptedCall("run_command", {"command": "ln -s /etc/passwd link"})]),
        ScriptedTurn(calls=[ScriptedCall("read_file", {"path": "link"})]),
        ScriptedTurn(text="I stayed inside."),
    ],
    "many": [ScriptedTurn(calls=[ScriptedCall("run_command", {"command": "echo {turn}"})])] * 40
    + [ScriptedTurn(text="done")],
}


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with ModelServer(
        ScriptedModel([ScriptedTurn(text="fine")], conversations=SCRIPTS, models=["gpt-5"])
    ) as server:
        yield server


@pytest.fixture(scope="module")
def stack(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    home: Path = tmp_path_factory.mktemp("faults")
    environment = runner_environment(model) | {"STIGMER_LLM_API_KEY": ""}
    with RunningStack(home, server_environment=QUICK_HEARTBEAT, runner_environment=environment) as running:
        yield running


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", 429, retry_after="1"),
        Fault("status", 500),
        Fault("cut"),
        Fault("end_early"),
        Fault("malformed"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_a_model_that_fails_twice_is_asked_again_and_the_answer_is_whole(
    stack: RunningStack, model: ModelServer, fault: Fault
) -> None:
    key = uuid4().hex
    model.script.faults = {1: [fault, fault]}
    try:
        execution = Execution.start(stack, agent_manifest(), f"Hello. [conversation {key}]")
        resource = execution.wait_until_completed()
    finally:
        model.script.faults = {}
    assert resource.output is not None
    assert inline(resource.output) == "fine"
    [answer] = [event for event in execution.events if isinstance(event, ModelResponded)]
    assert answer.retries == 2
    assert model.asked[key, 1] == 3


def test_a_model_that_hangs_is_given_up_on_and_asked_again(stack: RunningStack, model: ModelServer) -> None:
    key = uuid4().hex
    model.script.faults = {1: [Fault("hang")]}
    try:
        manifest = agent_manifest(model_settings={"timeout": "1s"})
        execution = Execution.start(stack, manifest, f"Hello. [conversation {key}]")
        execution.wait_until_completed()
    finally:
        model.script.faults = {}
    assert model.asked[key, 1] == 2


def test_a_wrong_key_fails_at_once_with_the_providers_reason(stack: RunningStack, model: ModelServer) -> None:
    key = uuid4().hex
    model.script.faults = {1: [Fault("status", 401, message="Incorrect API key provided")]}
    try:
        execution = Execution.start(stack, agent_manifest(), f"Hello. [conversation {key}]")
        resource = execution.wait_until_ended()
    finally:
        model.script.faults = {}
    assert resource.error is not None
    assert resource.error.code is ErrorCode.MODEL_REJECTED
    assert "Incorrect API key provided" in resource.error.message
    assert model.asked[key, 1] == 1


def retry(stack: RunningStack, execution: Execution, **limits: int) -> None:
    """Let an execution go on that failed."""
    body = {"limits": limits} if limits else {}
    answer = stack.client.post(f"/v1/executions/{execution.execution_id}/retry", json=body)
    assert answer.is_success, answer.text


def can_be_retried(stack: RunningStack, execution: Execution) -> bool:
    """Let an execution go on that waits; False: a leg of it is at work."""
    answer = stack.client.post(f"/v1/executions/{execution.execution_id}/retry", json={})
    assert answer.is_success or "it is in_progress" in answer.text, answer.text
    return answer.is_success


def test_an_execution_that_failed_goes_on_when_its_key_is_right_again(
    stack: RunningStack, model: ModelServer
) -> None:
    key = uuid4().hex
    model.script.faults = {1: [Fault("status", 401, message="Incorrect API key provided")]}
    try:
        execution = Execution.start(stack, agent_manifest(), f"Hello. [conversation {key}]")
        execution.wait_until_ended()
    finally:
        model.script.faults = {}

    retry(stack, execution)

    assert execution.wait_until_completed().error is None
    assert model.asked[key, 1] == 2


def test_a_limit_that_is_raised_lets_an_execution_go_on_and_nothing_is_paid_for_twice(
    stack: RunningStack, model: ModelServer
) -> None:
    key, prompt = conversation("many")
    asked = Counter(model.asked)
    execution = Execution.start(stack, agent_manifest(limits={"turns": 25}), prompt)
    resource = execution.wait_until_ended()
    assert resource.error is not None
    assert resource.error.code is ErrorCode.LIMIT_TURNS
    retry(stack, execution)
    resource = execution.wait_until_ended()
    assert resource.error is not None  # at once, for nothing has changed
    assert resource.error.code is ErrorCode.LIMIT_TURNS

    retry(stack, execution, turns=100)

    execution.wait_until_completed()
    assert answered_turns(execution.events) == list(range(1, 42))
    assert {turn: model.asked[key, turn] - asked[key, turn] for turn in range(1, 42)} == dict.fromkeys(
        range(1, 42), 1
    )


def test_a_model_that_is_away_for_long_is_waited_for_without_a_leg_over_kills_and_asked_when_a_person_says(
    stack: RunningStack, model: ModelServer
) -> None:
    key = uuid4().hex
    model.script.faults = {1: [Fault("status", 503, retry_after="3600", message="back in an hour")]}
    try:
        execution = Execution.start(stack, agent_manifest(), f"Hello. [conversation {key}]")
        execution.wait_for(lambda each: isinstance(each.event, LegEnded))
    finally:
        model.script.faults = {}
    [reason] = execution.resource.waiting_for
    assert (reason.kind, reason.key) == (WaitKind.MODEL, "openai:gpt-5")
    assert "back in an hour" in (reason.detail or "")
    stack.kill_runner(stack.runners[-1])
    stack.kill_server()
    stack.start_server()
    stack.start_runner(f"after-{key}")
    # Where the runner died before Temporal knew that its leg waits, one more leg looks, and asks nobody.
    wait_until(lambda: can_be_retried(stack, execution), "it goes on when a person says so")

    execution.wait_until_completed()
    assert model.asked[key, 1] == 2
    [failed] = [event for event in execution.events if isinstance(event, ModelFailed)]
    assert failed.next_try_at - failed.since >= timedelta(hours=1)


def test_an_unknown_model_fails_at_once_with_the_providers_reason(stack: RunningStack) -> None:
    execution = Execution.start(stack, agent_manifest(model="openai:gpt-0"), "Hello.")
    resource = execution.wait_until_ended()
    assert resource.error is not None
    assert resource.error.code is ErrorCode.MODEL_REJECTED
    assert "gpt-0" in resource.error.message


def test_a_model_that_calls_an_unknown_tool_or_gives_bad_arguments_is_told_and_goes_on(
    stack: RunningStack, model: ModelServer
) -> None:
    key, prompt = conversation("unknown-tool")
    execution = Execution.start(stack, agent_manifest(), prompt)
    execution.wait_until_completed()
    told = [json.dumps(body) for body in model.bodies if f"[conversation {key}]" in json.dumps(body)]
    assert "no_such_tool" in told[1]
    assert "comand" in told[2]
    assert answered_turns(execution.events) == [1, 2, 3]


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"turns": 3}, ErrorCode.LIMIT_TURNS),
        ({"tokens": 300}, ErrorCode.LIMIT_TOKENS),
        ({"costUsd": 0.0005}, ErrorCode.LIMIT_COST),
    ],
)
def test_limits_count_what_earlier_legs_used(
    stack: RunningStack, limits: dict[str, float], code: ErrorCode
) -> None:
    _, prompt = conversation("endless")
    execution = Execution.start(stack, agent_manifest(limits=dict(limits)), prompt)
    execution.wait_for(lambda recorded: isinstance(recorded.event, ToolStarted))
    stack.kill_runner(stack.runners[-1])
    stack.start_runner(f"after-{code}")
    resource = execution.wait_until_ended()
    assert resource.error is not None
    assert resource.error.code is code
    answers = [event for event in execution.events if isinstance(event, ModelResponded)]
    assert sum((answer.usage for answer in answers), Usage()) == resource.usage
    if code is not ErrorCode.LIMIT_COST:
        assert len(answers) == 3  # 110 tokens each


def test_an_execution_that_takes_longer_than_it_may_is_ended_with_its_command(stack: RunningStack) -> None:
    _, prompt = conversation("sleeper")
    execution = Execution.start(stack, agent_manifest(limits={"duration": "3s"}), prompt)
    resource = execution.wait_until_ended()
    assert resource.error is not None
    assert resource.error.code is ErrorCode.LIMIT_DURATION
    assert_no_process_left(stack, execution)


def test_a_tool_that_takes_too_long_is_stopped_with_all_it_started_and_the_model_is_told(
    stack: RunningStack,
) -> None:
    _, prompt = conversation("sleeper")
    execution = Execution.start(stack, agent_manifest(limits={"toolTimeout": "1s"}), prompt)
    execution.wait_until_completed()
    [result] = tool_results(execution.events)
    assert "timed out" in json.dumps(inline(result.result))
    assert_no_process_left(stack, execution)


def test_a_cancelled_execution_stops_its_command_with_all_it_started(stack: RunningStack) -> None:
    _, prompt = conversation("sleeper")
    execution = Execution.start(stack, agent_manifest(), prompt)
    execution.wait_for(lambda recorded: isinstance(recorded.event, ToolStarted))
    execution.cancel()
    assert execution.wait_until_ended().phase is ExecutionPhase.CANCELLED
    assert_no_process_left(stack, execution)


def assert_no_process_left(stack: RunningStack, execution: Execution) -> None:
    """No process works in the session's directory any more."""
    directory = stack.workspace_root / execution.session_id
    left = [
        process.info
        for process in psutil.process_iter(["pid", "cwd", "cmdline"])
        if process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(directory)
    ]
    assert left == []


def test_cancelling_an_execution_that_no_runner_has_taken_ends_it(stack: RunningStack) -> None:
    stack.kill_runner(stack.runners[-1])
    try:
        execution = Execution.start(stack, agent_manifest(), "Hello.")
        execution.cancel()
        assert execution.wait_until_ended().phase is ExecutionPhase.CANCELLED
    finally:
        stack.start_runner("after-cancel")


def test_an_execution_says_that_no_runner_is_connected(tmp_path: Path) -> None:
    stack = RunningStack(tmp_path)
    try:
        stack.start_temporal()
        stack.start_server()
        execution = Execution.start(stack, agent_manifest(), "Hello.")
        assert execution.resource.pending_reason == "no runner is connected"
    finally:
        stack.stop()


def test_executions_of_a_session_share_history_and_workspace(stack: RunningStack, model: ModelServer) -> None:
    first = Execution.start(stack, agent_manifest(), "Remember the word heron.")
    first.wait_until_completed()
    second = Execution.start(stack, agent_manifest(), "Which word?", session_id=first.session_id)
    second.wait_until_completed()
    assert second.session_id == first.session_id
    asked = [body for body in model.bodies if "Which word?" in json.dumps(body)]
    assert "Remember the word heron." in json.dumps(asked[-1])
    assert "fine" in json.dumps(asked[-1])


def test_file_tools_do_not_leave_the_workspace(stack: RunningStack) -> None:
    _, prompt = conversation("escape")
    execution = Execution.start(stack, agent_manifest(), prompt)
    execution.wait_until_completed()
    reads = [result for result in tool_results(execution.events) if result.tool == "read_file"]
    assert [read.outcome is ToolOutcome.SUCCEEDED for read in reads] == [False, False]
    assert "root:" not in json.dumps([inline(read.result) for read in reads])


def test_what_is_large_goes_to_the_blob_store(stack: RunningStack) -> None:
    _, prompt = conversation("large")
    execution = Execution.start(stack, agent_manifest(), prompt)
    execution.wait_until_completed()
    [started] = tool_starts(execution.events)
    assert isinstance(started.arguments, BlobPayload)
    assert started.arguments.size_bytes > INLINE_PAYLOAD_MAX_BYTES
    blob = stack.client.get(f"/v1/blobs/{started.arguments.sha256}")
    assert blob.json()["content"] == "x" * 100_000


def test_the_log_grows_linearly_in_steps(stack: RunningStack) -> None:
    _, prompt = conversation("many")
    execution = Execution.start(stack, agent_manifest(), prompt)
    execution.wait_until_completed()
    log = execution.log
    # Pieces of history are few and large: one more on either side of the middle says nothing of growth.
    sizes = [len(each.model_dump_json()) for each in log if not isinstance(each.event, HistoryStored)]
    middle = len(sizes) // 2
    assert sum(sizes[middle:]) < 1.2 * sum(sizes[:middle])
    # Bytes a step: an answer, a start, a result and what the files were, and its share of the pieces.
    assert sum(len(each.model_dump_json()) for each in log) / 40 < 4_000


def test_nothing_private_reaches_temporal_or_a_log_file(stack: RunningStack) -> None:
    _, prompt = conversation("private")
    execution = Execution.start(stack, agent_manifest(), f"{prompt} {CANARY}")
    execution.wait_until_completed()
    stack.kill_runner(stack.runners[-1])
    stack.start_runner("after-privacy")
    assert CANARY in json.dumps([event.model_dump(mode="json") for event in execution.events])
    with closing(sqlite3.connect(stack.home / "temporal.db")) as database:
        dump = "\n".join(itertools.chain.from_iterable(map(_text_of_row, _all_rows(database))))
    assert execution.execution_id in dump  # the search does look at the right place
    for secret in (CANARY, stack.token, "test-key"):
        assert secret not in dump
        for log in (stack.home / "logs").iterdir():
            assert secret not in log.read_text(encoding="utf-8", errors="replace"), log


def _all_rows(database: sqlite3.Connection) -> Iterator[tuple[object, ...]]:
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        yield from database.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - the names come from the database


def _text_of_row(row: tuple[object, ...]) -> list[str]:
    return [
        value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value) for value in row
    ]


def test_temporal_holds_nothing_large(stack: RunningStack) -> None:
    with closing(sqlite3.connect(stack.home / "temporal.db")) as database:
        largest = max(len(value) for row in _all_rows(database) for value in row if isinstance(value, bytes))
    assert largest < INLINE_PAYLOAD_MAX_BYTES


def test_a_runner_that_dies_again_and_again_in_the_same_place_is_not_started_for_ever(
    stack: RunningStack, model: ModelServer
) -> None:
    key = uuid4().hex
    model.script.faults = {1: [Fault("hang")] * 20}
    try:
        execution = Execution.start(stack, agent_manifest(), f"Hello. [conversation {key}]")
        for death in range(1, 6):
            execution.wait_for(partial(is_leg, death))
            stack.kill_runner(stack.runners[-1])
            stack.start_runner(f"dying-{death}", wait=False)
        resource = execution.wait_until_ended()
    finally:
        model.release()
        model.script.faults = {}
    assert resource.error is not None
    assert resource.error.code is ErrorCode.RUNNER_LOST
    [failed] = [event for event in execution.events if isinstance(event, ExecutionFailed)]
    assert "5 runners died" in failed.message


def is_leg(attempt: int, recorded: RecordedEvent) -> bool:
    """Whether a leg of that attempt, or a later one, has started."""
    return isinstance(recorded.event, LegStarted) and recorded.event.attempt >= attempt


def test_a_finished_tool_is_not_run_again_by_the_next_leg(stack: RunningStack) -> None:
    _, prompt = conversation("many")
    execution = Execution.start(stack, agent_manifest(), prompt)
    finished = execution.wait_for(lambda recorded: isinstance(recorded.event, ToolFinished))
    stack.kill_runner(stack.runners[-1])
    stack.start_runner("after-finished", wait=False)
    execution.wait_until_completed()
    assert isinstance(finished.event, ToolFinished)
    same = [r for r in tool_results(execution.events) if r.call_id == finished.event.call_id]
    assert len(same) == 1
