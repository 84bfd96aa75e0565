"""Killed at any step, an execution goes on where it stood, and no answer is paid for twice."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from e2e_script import TOOL_CALLS
from executions import Execution, agent_manifest, answered_turns, tool_results
from model_server import ModelServer
from running_stack import RunnerProcess, RunningStack
from server_process import wait_until
from stigmer_contract.events import LegEnded, LegEndReason, LegStarted, RecordedEvent, ToolOutcome

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("recovery")]

KILLS = 20
"""Kills of the runner, at places spread over the log of the execution."""
HALVES = [
    pytest.param(range(first, KILLS, 2), id=name, marks=pytest.mark.xdist_group(f"recovery-{name}"))
    for first, name in enumerate(("even", "odd"))
]
"""Of the kills, for two workers: most of the time goes into waiting until Temporal misses the runner."""


def start(stack: RunningStack) -> tuple[Execution, str]:
    """A ten-tool execution, and the key under which the model counts it."""
    key = uuid4().hex
    return Execution.start(stack, agent_manifest(), f"Do it. [conversation {key}]"), key


def at(sequence: int) -> Callable[[RecordedEvent], bool]:
    """Whether the log has come to a place."""
    return lambda recorded: recorded.sequence >= sequence


def assert_whole(
    stack: RunningStack, execution: Execution, key: str, model: ModelServer, *, repeats: int
) -> None:
    """The log is without gap or double; of all turns together at most `repeats` answers were asked for again;
    each command ran at most once, or the model was told that nobody knows."""
    log = execution.log
    assert [recorded.sequence for recorded in log] == list(range(1, len(log) + 1))
    assert answered_turns(execution.events) == list(range(1, TOOL_CALLS + 2))
    asked = [model.asked[key, turn] for turn in range(1, TOOL_CALLS + 2)]
    assert sum(asked) - len(asked) <= repeats, asked
    unknown = {
        result.turn for result in tool_results(execution.events) if result.outcome is ToolOutcome.UNKNOWN
    }
    done = (stack.workspace_root / execution.session_id / "done.txt").read_text(encoding="utf-8")
    times = Counter(done.split())
    for turn in range(1, TOOL_CALLS + 1):
        allowed = {0, 1} if turn in unknown else {1}
        assert times[f"turn-{turn}"] in allowed, (turn, unknown, done)


@pytest.mark.parametrize("kills", HALVES)
def test_an_execution_completes_however_often_its_runner_is_killed(
    kills: range, ten_tools_stack: RunningStack, ten_tools_model: ModelServer
) -> None:
    stack = ten_tools_stack
    runner = stack.runners[-1]
    attempts: list[int] = []
    for kill in kills:
        execution, key = start(stack)
        # An undisturbed log has 35 events; the places move through it, so that every kind of step is hit.
        execution.wait_for(at(2 + (kill * 31) // KILLS))
        stack.kill_runner(runner)
        runner = stack.start_runner(f"runner-{kill}", wait=False)
        execution.wait_until_completed()
        assert_whole(stack, execution, key, ten_tools_model, repeats=1)
        attempts.append(execution.resource.attempt)
    # The kills did hit executions in hand, and not only their ends.
    assert sum(attempt >= 2 for attempt in attempts) >= len(kills) * 3 // 4, attempts


def test_an_execution_survives_the_death_of_the_server(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer
) -> None:
    for place in (3, 12, 24):
        execution, key = start(ten_tools_stack)
        execution.wait_for(at(place))
        ten_tools_stack.kill_server()
        ten_tools_stack.start_server()
        execution.wait_until_completed()
        # The runner was not killed: it holds every answer until the log has it.
        assert_whole(ten_tools_stack, execution, key, ten_tools_model, repeats=0)


def test_an_execution_survives_a_server_that_stands_still(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer
) -> None:
    def silences() -> int:
        return sum(
            ten_tools_stack.log_of(one.name).count("does not answer") for one in ten_tools_stack.runners
        )

    execution, key = start(ten_tools_stack)
    execution.wait_for(at(9))
    before = silences()
    os.kill(ten_tools_stack.server_pid, signal.SIGSTOP)
    try:
        wait_until(lambda: silences() > before, "the runner has waited for an answer in vain")
    finally:
        os.kill(ten_tools_stack.server_pid, signal.SIGCONT)
    execution.wait_until_completed()
    assert_whole(ten_tools_stack, execution, key, ten_tools_model, repeats=0)


def test_an_execution_survives_the_death_of_temporal(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer
) -> None:
    execution, key = start(ten_tools_stack)
    execution.wait_for(at(9))
    ten_tools_stack.kill_temporal()
    ten_tools_stack.start_temporal()
    execution.wait_until_completed()
    assert_whole(ten_tools_stack, execution, key, ten_tools_model, repeats=1)


def test_an_execution_survives_the_death_of_everything_at_once(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer
) -> None:
    stack = ten_tools_stack
    execution, key = start(stack)
    execution.wait_for(at(15))
    stack.kill_temporal()
    stack.kill_server()
    stack.kill_runner(stack.runners[-1])
    stack.start_temporal()
    stack.start_server()
    stack.start_runner("runner-after-all")
    execution.wait_until_completed()
    assert_whole(stack, execution, key, ten_tools_model, repeats=1)


def test_a_drained_runner_finishes_its_step_and_nothing_is_repeated(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer
) -> None:
    stack = ten_tools_stack
    execution, key = start(stack)
    execution.wait_for(at(12))
    drained: RunnerProcess = stack.runners[-1]
    drained.process.send_signal(signal.SIGTERM)
    stack.start_runner("runner-after-drain")
    execution.wait_until_completed()
    assert drained.process.wait(60) == 0
    assert_whole(stack, execution, key, ten_tools_model, repeats=0)
    ends = [event.reason for event in execution.events if isinstance(event, LegEnded)]
    assert ends == [LegEndReason.DRAINED, LegEndReason.COMPLETED]
    assert not [r for r in tool_results(execution.events) if r.outcome is ToolOutcome.UNKNOWN]


def test_a_runner_that_is_told_to_end_does_so_though_the_server_is_away(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer
) -> None:
    stack = ten_tools_stack
    execution, key = start(stack)
    execution.wait_for(at(9))
    stack.kill_server()
    ended: RunnerProcess = stack.runners[-1]
    ended.process.send_signal(signal.SIGTERM)
    ended.process.send_signal(signal.SIGTERM)
    ended.process.wait(100)
    stack.start_server()
    stack.start_runner("runner-after-the-end")
    execution.wait_until_completed()
    assert_whole(stack, execution, key, ten_tools_model, repeats=1)


def test_a_runner_that_was_only_cut_off_cannot_write_into_an_execution_that_moved_on(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer
) -> None:
    stack = ten_tools_stack
    frozen = stack.runners[-1]
    execution, key = start(stack)
    execution.wait_for(at(9))
    frozen.process.send_signal(signal.SIGSTOP)
    stack.start_runner("runner-that-takes-over")
    execution.wait_for(
        lambda recorded: isinstance(recorded.event, LegStarted) and recorded.event.attempt == 2
    )
    frozen.process.send_signal(signal.SIGCONT)
    execution.wait_until_completed()
    assert_written_by_its_newest_attempt_only(execution.log)
    assert_whole(stack, execution, key, ten_tools_model, repeats=1)
    stack.kill_runner(frozen)


def assert_written_by_its_newest_attempt_only(log: list[RecordedEvent]) -> None:
    """Each event of a leg came from the attempt that was the newest at that place of the log."""
    newest = 0
    for recorded in log:
        if isinstance(recorded.event, LegStarted):
            assert recorded.event.attempt == newest + 1
            newest = recorded.event.attempt
        elif recorded.attempt is not None:
            assert recorded.attempt == newest
    assert newest >= 2


def test_two_runners_share_forty_executions_and_all_complete_though_one_is_killed(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer
) -> None:
    stack = ten_tools_stack
    second = stack.start_runner("second-runner")
    with ThreadPoolExecutor(8) as threads:
        started = list(threads.map(start, [stack] * 40))
        started[20][0].wait_for(at(6))
        stack.kill_runner(second)
        list(threads.map(Execution.wait_until_completed, [execution for execution, _ in started]))
    runners = {
        event.runner
        for execution, _ in started
        for event in execution.events
        if isinstance(event, LegStarted)
    }
    assert len(runners) >= 2
    for execution, key in started:
        assert_whole(stack, execution, key, ten_tools_model, repeats=1)
