"""A leg from its grant to its end, with a server in memory and a scripted model."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart

from agent_runner.leg_parts import StopReason
from agent_runner.legs import ActivityAttempt, LegRunner
from agent_runner.loop_marker import marking
from agent_runner.models.model_faults import ModelRequestFailed, unavailable
from leg_server import SESSION, Answer, Server, Unfinished, leg_runner
from stigmer_contract.conversation import ToolOutcome, ToolResult
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    EnvironmentDescribed,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    HistoryStored,
    InlinePayload,
    LegEnded,
    LegEndReason,
    LegStarted,
    ModelFailed,
    ModelInterrupted,
    ModelResponded,
    StepFinished,
    ToolFinished,
    ToolStarted,
)
from stigmer_contract.runner_names import MARKER_BYTES
from stigmer_contract.temporal import LegOutcome, LegResult
from stigmer_contract.waits import WaitKind
from stigmer_isolation.launcher import CommandLauncher

ENDED = LegResult(outcome=LegOutcome.ENDED)
TRY = ActivityAttempt("try-1", b"token")
NEXT_TRY = ActivityAttempt("try-2", b"next")


@pytest.fixture
async def launcher() -> AsyncGenerator[CommandLauncher]:
    async with CommandLauncher() as launcher:
        yield launcher


@pytest.fixture
def make_runner(tmp_path: Path, launcher: CommandLauncher) -> Callable[[Server, Answer], LegRunner]:
    return lambda server, answer: leg_runner(server, answer, launcher, tmp_path)


Make = Callable[[Server, Answer], LegRunner]


def say(text: str) -> Answer:
    return lambda _messages: ModelResponse(parts=[TextPart(text)])


def run_commands(*commands: str) -> Answer:
    """The commands, one after the other in one answer, and then the end."""

    def answer(messages: list[ModelMessage]) -> ModelResponse:
        if any(isinstance(message, ModelResponse) for message in messages):
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(
            parts=[
                ToolCallPart("run_command", {"command": command}, f"c{place}")
                for place, command in enumerate(commands)
            ]
        )

    return answer


def last_failure(server: Server) -> ExecutionFailed:
    failed = server.events[-1]
    assert isinstance(failed, ExecutionFailed)
    return failed


async def test_a_leg_writes_what_happened_and_how_it_ended(make_runner: Make) -> None:
    server = Server()
    assert await make_runner(server, say("Hello.")).run("exe_1", TRY) == ENDED
    started, described, noted, answered, stored, ended, completed = server.events
    assert isinstance(started, LegStarted)
    assert isinstance(described, EnvironmentDescribed)
    assert isinstance(noted, StepFinished)
    assert noted.kind == "note"
    assert isinstance(answered, ModelResponded)
    assert isinstance(stored, HistoryStored)
    assert ended == LegEnded(attempt=1, reason=LegEndReason.COMPLETED, seen=1)
    assert completed == ExecutionCompleted(output=InlinePayload(value="Hello."))


async def test_what_the_log_refuses_fails_the_execution_with_its_own_code_and_cause(
    make_runner: Make,
) -> None:
    server = Server(tools=["shell"])
    server.refuses = "tool.started"
    assert await make_runner(server, run_commands("true")).run("exe_1", TRY) == LegResult(
        outcome=LegOutcome.ENDED
    )
    failed = last_failure(server)
    assert failed.code is ErrorCode.EVENT_UNWRITABLE
    assert failed.message == (
        "what happened after event 5 could not be written into the log: the server answered 422: no "
        "tool.started today"
    )


async def test_a_defect_names_a_code_and_the_place_in_the_log_and_is_no_death(make_runner: Make) -> None:
    server = Server()

    def answer(messages: list[ModelMessage]) -> ModelResponse:
        raise ZeroDivisionError

    await make_runner(server, answer).run("exe_1", TRY)
    assert last_failure(server).code is not ErrorCode.RUNNER_LOST
    assert server.attempt == 1


async def test_a_defect_before_the_work_is_in_the_log_too(
    make_runner: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    runner = make_runner(server, say("unused"))

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("agent_runner.leg.RecordedSteps.from_events", broken)
    assert await runner.run("exe_1", TRY) == ENDED
    assert last_failure(server).message == "the runner failed unexpectedly after event 1: ZeroDivisionError"


async def test_a_call_that_a_cancellation_stops_and_one_that_it_prevents_are_in_the_log(
    make_runner: Make,
) -> None:
    server = Server(tools=["shell"])
    runner = make_runner(server, run_commands("sleep 60", "true"))
    work = asyncio.create_task(runner.run("exe_1", TRY))
    await server.wait_for(ToolStarted)
    runner.stop("exe_1", StopReason.CANCEL)
    assert await work == ENDED
    stopped, prevented = [event for event in server.events if isinstance(event, ToolFinished)]
    assert (stopped.call_id, stopped.outcome) == ("c0", ToolOutcome.UNKNOWN)
    assert (prevented.call_id, prevented.outcome) == ("c1", ToolOutcome.CANCELLED)
    assert stopped.result != prevented.result
    assert isinstance(server.events[-1], ExecutionCancelled)


async def test_what_an_answer_had_said_when_it_was_cut_off_is_kept(make_runner: Make) -> None:
    server = Server()
    runner = make_runner(server, lambda _messages: Unfinished("Once upon a \ud83d"))
    work = asyncio.create_task(runner.run("exe_1", TRY))
    await server.wait_until_shown("Once upon a")
    runner.stop("exe_1", StopReason.CANCEL)
    assert await work == ENDED
    cut, ended, cancelled = server.events[-3:]
    assert isinstance(cut, ModelInterrupted)
    assert (cut.turn, cut.text) == (1, InlinePayload(value="Once upon a \ufffd"))
    assert cut.usage.estimated
    assert (cut.usage.requests, cut.usage.output_tokens) == (1, 3)
    assert cut.usage.input_tokens > 10
    assert (ended, cancelled) == (
        LegEnded(attempt=1, reason=LegEndReason.CANCELLED),
        ExecutionCancelled(),
    )


async def test_an_answer_that_had_not_begun_leaves_nothing(make_runner: Make) -> None:
    server = Server()
    asked = asyncio.Event()

    def answer(_messages: list[ModelMessage]) -> Unfinished:
        asked.set()
        return Unfinished("")

    runner = make_runner(server, answer)
    work = asyncio.create_task(runner.run("exe_1", TRY))
    await asked.wait()
    runner.stop("exe_1", StopReason.CANCEL)
    assert await work == ENDED
    assert not [event for event in server.events if isinstance(event, ModelInterrupted)]


async def test_a_process_that_hands_back_keeps_nothing_of_an_answer_that_is_asked_for_again(
    make_runner: Make,
) -> None:
    server = Server()
    runner = make_runner(server, lambda _messages: Unfinished("Once"))
    work = asyncio.create_task(runner.run("exe_1", TRY))
    await server.wait_until_shown("Once")
    runner.stop("exe_1", StopReason.HAND_BACK)
    assert await work == LegResult(outcome=LegOutcome.DRAINED)
    assert not [event for event in server.events if isinstance(event, ModelInterrupted)]


@pytest.mark.parametrize(
    ("trap", "told"),
    [("echo cleared; exit 0", "cleared"), ("", "stopped while it was running")],
    ids=["it clears up", "it does not hear"],
)
async def test_a_command_is_asked_to_end_before_it_is_killed(
    make_runner: Make, monkeypatch: pytest.MonkeyPatch, trap: str, told: str
) -> None:
    # One that ends by itself has all the time it takes, the other none that would be missed.
    monkeypatch.setattr("agent_runner.leg.CANCEL_GRACE_SECONDS", 60.0 if trap else 0.1)
    server = Server(tools=["shell"])
    runner = make_runner(server, run_commands(f"trap '{trap}' TERM; echo begun; while :; do sleep 0.1; done"))
    work = asyncio.create_task(runner.run("exe_1", TRY))
    await server.wait_until_shown("begun")
    runner.stop("exe_1", StopReason.CANCEL)
    assert await work == ENDED
    [cut] = [event for event in server.events if isinstance(event, ToolFinished)]
    assert cut.outcome is ToolOutcome.UNKNOWN
    assert isinstance(cut.result, InlinePayload)
    text = ToolResult.model_validate(cut.result.value).text
    assert told in text
    assert "stopped while it was running" in text
    assert isinstance(server.events[-1], ExecutionCancelled)


async def test_a_paused_leg_ends_its_step_and_waits_and_goes_on_where_it_stood(
    make_runner: Make, tmp_path: Path
) -> None:
    server = Server(tools=["shell"])
    runner = make_runner(server, touch_when_told(2))
    work = asyncio.create_task(runner.run("exe_1", TRY))
    await server.wait_for(ToolStarted)
    server.is_paused = True
    (tmp_path / SESSION / "go").touch()
    paused = LegResult(outcome=LegOutcome.WAITING)
    assert await work == paused
    ended = server.events[-1]
    assert isinstance(ended, LegEnded)
    assert [reason.kind for reason in ended.waiting_for] == [WaitKind.PAUSE]
    done = len([event for event in server.events if isinstance(event, ToolFinished)])
    assert done == (tmp_path / SESSION / "done.txt").read_text(encoding="utf-8").count("done")

    # One that is woken while it is paused does nothing.
    assert await runner.run("exe_1", NEXT_TRY) == paused
    server.is_paused = False
    assert await runner.run("exe_1", ActivityAttempt("try-3", b"third")) == ENDED
    assert isinstance(server.events[-1], ExecutionCompleted)
    assert (tmp_path / SESSION / "done.txt").read_text(encoding="utf-8").count("done") == 2


async def test_a_leg_that_is_cancelled_before_it_begins_tells_of_the_call_of_a_dead_runner(
    make_runner: Make,
) -> None:
    server = Server(tools=["shell"])
    runner = make_runner(server, run_commands("sleep 60"))
    work = asyncio.create_task(runner.run("exe_1", TRY))
    await server.wait_for(ToolStarted)
    runner.stop("exe_1", StopReason.FALL_SILENT)
    assert await work == LegResult(outcome=LegOutcome.SUPERSEDED)
    server.cancel_requested = True
    await make_runner(server, say("unused")).run("exe_1", TRY)
    [unknown] = [event for event in server.events if isinstance(event, ToolFinished)]
    assert unknown.outcome is ToolOutcome.UNKNOWN
    assert isinstance(server.events[-1], ExecutionCancelled)


async def test_a_drained_leg_ends_its_step_and_hands_back_and_the_next_goes_on(make_runner: Make) -> None:
    server = Server(tools=["shell"])
    runner = make_runner(server, run_commands("sleep 0.3; echo once >> done.txt"))
    work = asyncio.create_task(runner.run("exe_1", TRY))
    await server.wait_for(ToolStarted)
    runner.drain()
    assert await work == LegResult(outcome=LegOutcome.DRAINED)
    assert isinstance(server.events[-1], LegEnded)
    assert await make_runner(server, run_commands()).run("exe_1", TRY) == ENDED
    assert isinstance(server.events[-1], ExecutionCompleted)
    assert len([event for event in server.events if isinstance(event, ToolFinished)]) == 1


async def test_a_leg_that_was_fenced_off_writes_nothing_more(make_runner: Make) -> None:
    server = Server(tools=["shell"])
    runner = make_runner(server, run_commands("sleep 0.2"))
    work = asyncio.create_task(runner.run("exe_1", TRY))
    await server.wait_for(ToolStarted)
    server.attempt += 1
    assert await work == LegResult(outcome=LegOutcome.SUPERSEDED)
    assert isinstance(server.events[-1], ToolStarted)


def touch_when_told(count: int = 1) -> Answer:
    """Commands that wait for the file `go`, and then say so in `done.txt`."""
    return run_commands(*["until test -e go; do sleep 0.05; done; echo done >> done.txt"] * count)


async def begin_and_lose(runner: LegRunner, server: Server) -> None:
    """Run a leg until its first tool has begun; then Temporal loses the activity."""
    first = asyncio.create_task(runner.run("exe_1", TRY))
    await server.wait_for(ToolStarted)
    runner.let_go("exe_1", TRY)
    assert await first == LegResult(outcome=LegOutcome.SUPERSEDED)


async def test_a_leg_that_lost_its_activity_is_adopted_by_the_next_one(
    make_runner: Make, tmp_path: Path
) -> None:
    server = Server(tools=["shell"])
    runner = make_runner(server, touch_when_told())
    await begin_and_lose(runner, server)
    await server.wait_for_holds(lambda holds: holds == [None])
    second = asyncio.create_task(runner.run("exe_1", NEXT_TRY))
    await server.wait_for_holds(lambda holds: NEXT_TRY.token_text in holds)
    (tmp_path / SESSION / "go").touch()
    assert await second == ENDED
    assert server.attempt == 1
    assert [event.outcome for event in server.events if isinstance(event, ToolFinished)] == [
        ToolOutcome.SUCCEEDED
    ]


async def test_a_leg_without_an_activity_ends_its_work_all_the_same(
    make_runner: Make, tmp_path: Path
) -> None:
    server = Server(tools=["shell"])
    await begin_and_lose(make_runner(server, touch_when_told()), server)
    (tmp_path / SESSION / "go").touch()
    await server.wait_for(ExecutionCompleted)
    assert server.attempt == 1


async def test_an_activity_that_comes_before_the_old_one_is_known_to_be_lost_takes_its_place(
    make_runner: Make, tmp_path: Path
) -> None:
    server = Server(tools=["shell"])
    runner = make_runner(server, touch_when_told())
    first = asyncio.create_task(runner.run("exe_1", TRY))
    await server.wait_for(ToolStarted)
    second = asyncio.create_task(runner.run("exe_1", NEXT_TRY))
    assert await first == LegResult(outcome=LegOutcome.SUPERSEDED)
    runner.let_go("exe_1", TRY)  # of no more meaning
    (tmp_path / SESSION / "go").touch()
    assert await second == ENDED
    assert server.attempt == 1


async def test_a_leg_without_an_activity_falls_silent_once_another_attempt_has_the_execution(
    make_runner: Make,
) -> None:
    server = Server(tools=["shell"])
    runner = make_runner(server, run_commands("sleep 60"))
    await begin_and_lose(runner, server)
    server.attempt += 1
    await runner.finish(60, asyncio.Event())
    assert isinstance(server.events[-1], ToolStarted)


@pytest.mark.parametrize("reason", ["another runner waits", "nobody came in time"])
async def test_a_leg_without_an_activity_ends_its_step_and_hands_back(
    reason: str, make_runner: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason == "nobody came in time":
        monkeypatch.setattr("agent_runner.legs.ORPHAN_SECONDS", -1.0)
    server = Server(tools=["shell"])
    server.is_wanted = reason == "another runner waits"
    runner = make_runner(server, touch_when_told(2))
    await begin_and_lose(runner, server)
    await server.wait_for_holds(lambda holds: len(holds) > 1)
    (tmp_path / SESSION / "go").touch()
    await server.wait_for(LegEnded)
    assert server.events[-1] == LegEnded(attempt=1, reason=LegEndReason.DRAINED)
    assert {event.outcome for event in server.events if isinstance(event, ToolFinished)} == {
        ToolOutcome.SUCCEEDED
    }


async def test_a_process_that_ends_waits_for_legs_without_an_activity(
    make_runner: Make, tmp_path: Path
) -> None:
    server = Server(tools=["shell"])
    runner = make_runner(server, touch_when_told())
    await begin_and_lose(runner, server)
    runner.drain()
    finished = asyncio.create_task(runner.finish(60, asyncio.Event()))
    await server.wait_for_holds(bool)
    assert not finished.done()
    (tmp_path / SESSION / "go").touch()
    await finished
    assert server.events[-1] == LegEnded(attempt=1, reason=LegEndReason.DRAINED)


async def test_a_process_that_is_told_to_hurry_drops_what_it_has_in_hand(make_runner: Make) -> None:
    server = Server(tools=["shell"])
    runner = make_runner(server, run_commands("sleep 60"))
    work = asyncio.create_task(runner.run("exe_1", TRY))
    await server.wait_for(ToolStarted)
    runner.drain()
    hurry = asyncio.Event()
    finished = asyncio.create_task(runner.finish(600, hurry))
    hurry.set()
    await finished
    assert await work == LegResult(outcome=LegOutcome.DRAINED)
    assert server.events[-1] == LegEnded(attempt=1, reason=LegEndReason.DRAINED)


async def test_the_marker_names_the_leg_that_holds_the_loop_and_nobody_else(
    make_runner: Make, tmp_path: Path
) -> None:
    server = Server()
    marker = tmp_path / "marker"
    marker.write_bytes(bytes(MARKER_BYTES))
    seen: list[bytes] = []

    def answer(_messages: list[ModelMessage]) -> ModelResponse:
        seen.append(marker.read_bytes())
        return ModelResponse(parts=[TextPart("Hello.")])

    descriptor = os.open(marker, os.O_RDWR)
    with marking(descriptor):
        assert await make_runner(server, answer).run("exe_1", TRY) == ENDED
        await asyncio.sleep(0)
        seen.append(marker.read_bytes())
    os.close(descriptor)
    assert [one.rstrip(b"\0") for one in seen] == [b"exe_1", b""]


async def test_what_a_leg_waits_for_is_written_without_secrets(make_runner: Make) -> None:
    server = Server()

    def answer(messages: list[ModelMessage]) -> ModelResponse:
        raise ModelRequestFailed(unavailable("503: no room for a-token-of-the-server", 3600))

    result = await asyncio.wait_for(make_runner(server, answer).run("exe_1", TRY), 5)

    assert result.outcome is LegOutcome.WAITING
    failed, ended = server.events[-2:]
    assert isinstance(failed, ModelFailed)
    assert isinstance(ended, LegEnded)
    assert failed.message == "503: no room for [secret STIGMER_TOKEN]"
    assert [reason.detail for reason in ended.waiting_for] == [failed.message]


async def test_a_wait_that_a_server_with_another_clock_began_lasts_no_longer_than_was_meant(
    make_runner: Make,
) -> None:
    server = Server()
    ahead = server.now + timedelta(days=1)
    await make_runner(server, say("first")).run("exe_1", TRY)
    del server.log[2:]  # as a runner leaves it that died behind a request that failed
    failed = ModelFailed(
        turn=1,
        model="test:scripted",
        message="503",
        failures=1,
        answered=0,
        since=ahead,
        next_try_at=ahead + timedelta(seconds=0.1),
    )
    server.write(failed)

    result = await asyncio.wait_for(make_runner(server, say("second")).run("exe_1", NEXT_TRY), 60)

    assert result == ENDED
    assert any(isinstance(event, ExecutionCompleted) for event in server.events)


async def test_a_model_without_a_price_is_not_asked_where_dollars_are_limited(make_runner: Make) -> None:
    server = Server(limits={"costUsd": "1"})
    await make_runner(server, say("That was paid for.")).run("exe_1", TRY)
    failed = last_failure(server)
    assert failed.code is ErrorCode.LIMIT_COST
    assert failed.message == "limits.costUsd cannot be kept: no price is known for model 'test:scripted'"
    assert not any(isinstance(event, ModelResponded) for event in server.events)
