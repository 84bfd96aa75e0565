"""What is said to an agent while it works: it is given that before its next turn, once, in one place."""

import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextContent,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)

from agent_runner.journal.kinds import MESSAGE
from agent_runner.legs import ActivityAttempt, LegRunner
from agent_runner.models import read_message, read_note, told_in
from agent_runner.models.notes import with_notes_in_place
from leg_server import Answer, Server, leg_runner
from stigmer_contract.events import (
    ExecutionCompleted,
    ExecutionFailed,
    InlinePayload,
    LegEnded,
    LegEndReason,
    LegStarted,
    ModelResponded,
    RecordedEvent,
    StepFinished,
)
from stigmer_contract.temporal import LegOutcome, LegResult
from stigmer_isolation.launcher import CommandLauncher

ENDED = LegResult(outcome=LegOutcome.ENDED)
DRAINED = LegResult(outcome=LegOutcome.DRAINED)
TRY = ActivityAttempt("try-1", b"token")
MESSAGES = {1: "Be quick.", 2: "And kind.", 3: "One more thing."}
"""By the turn during which each is said."""
Make = Callable[[Server, Answer], LegRunner]


@pytest.fixture
async def launcher() -> AsyncGenerator[CommandLauncher]:
    async with CommandLauncher() as launcher:
        yield launcher


@pytest.fixture
def make_runner(tmp_path: Path, launcher: CommandLauncher) -> Make:
    return lambda server, answer: leg_runner(server, answer, launcher, tmp_path)


def said_in(messages: list[ModelMessage]) -> list[str]:
    """What the person has said by then, the task included, each as the place of its request and its text."""
    return [
        f"{place}: {said if isinstance(said := part.content, str) else ''.join(map(_text_of, said))}"
        for place, message in enumerate(messages)
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, UserPromptPart) and told_in(part) is None
    ]


def _text_of(content: UserContent) -> str:
    assert isinstance(content, TextContent)
    return content.content


def turns_of(messages: list[ModelMessage]) -> int:
    return sum(isinstance(message, ModelResponse) for message in messages)


def work_for(turns: int, server: Server, say_at: dict[int, list[str]], asked: list[list[str]]) -> Answer:
    """So many turns with a command each, then the end. Before the answer of a turn something is said."""

    def answer(messages: list[ModelMessage]) -> ModelResponse:
        turn = turns_of(messages) + 1
        asked.append(said_in(messages))
        for text in say_at.pop(turn, []):
            server.say(text)
        if turn < turns:
            # It does what needs to be written down before, so that the server answers before the next turn.
            return ModelResponse(parts=[ToolCallPart("run_command", {"command": "true"}, f"c{turn}")])
        return ModelResponse(parts=[TextPart(f"answer {turn}")])

    return answer


def ends_of(server: Server) -> list[LegEndReason]:
    return [event.reason for event in server.events if isinstance(event, LegEnded)]


def answered(server: Server) -> list[int]:
    return [event.turn for event in server.events if isinstance(event, ModelResponded)]


async def run_to_the_end(make_runner: Make, server: Server, answer: Answer) -> None:
    while (result := await make_runner(server, answer).run("exe_1", TRY)) != ENDED:
        assert result == DRAINED


async def test_a_message_reaches_the_model_before_its_next_turn(make_runner: Make) -> None:
    server, asked = Server(tools=["shell"], context={"environment": False}), list[list[str]]()
    answer = work_for(3, server, {1: ["Be quick.", "And kind."]}, asked)
    assert await make_runner(server, answer).run("exe_1", TRY) == ENDED
    assert asked == [
        ["0: Go."],
        ["0: Go.", "2: Be quick.", "2: And kind."],
        ["0: Go.", "2: Be quick.", "2: And kind."],
    ]
    steps = [event for event in server.events if isinstance(event, StepFinished) and event.kind == MESSAGE]
    assert [(step.key, step.nth) for step in steps] == [("2", 1), ("2", 2)]
    assert ends_of(server) == [LegEndReason.COMPLETED]


async def test_one_more_turn_follows_where_a_message_came_before_the_end(make_runner: Make) -> None:
    server, asked = Server(context={"environment": False}), list[list[str]]()
    answer = work_for(1, server, {1: ["One more thing."], 2: ["And another."]}, asked)
    await run_to_the_end(make_runner, server, answer)
    assert asked == [
        ["0: Go."],
        ["0: Go.", "2: One more thing."],
        ["0: Go.", "2: One more thing.", "4: And another."],
    ]
    completed = server.events[-1]
    assert completed == ExecutionCompleted(output=InlinePayload(value="answer 3"))
    assert ends_of(server) == [LegEndReason.DRAINED, LegEndReason.DRAINED, LegEndReason.COMPLETED]
    assert len([event for event in server.events if isinstance(event, ModelResponded)]) == 3


async def test_a_runner_that_dies_anywhere_gives_the_agent_the_same_messages_at_the_same_place(
    make_runner: Make,
) -> None:
    server, asked = Server(tools=["shell"], context={"agentsFile": False}), list[list[str]]()
    await run_to_the_end(
        make_runner,
        server,
        work_for(3, server, {turn: [text] for turn, text in MESSAGES.items()}, asked),
    )
    whole = server.log
    for length in range(1, len(whole)):
        again = Server(tools=["shell"], context={"agentsFile": False})
        again.log = whole[:length]
        again.attempt = sum(isinstance(each.event, LegStarted) for each in again.log)
        said = [each.event.model_dump_json() for each in again.log]
        left = {
            turn: [text]
            for turn, text in MESSAGES.items()
            if not any("message.received" in event and text in event for event in said)
        }
        paid, asked_again = len(answered(again)), list[list[str]]()
        await run_to_the_end(make_runner, again, work_for(3, again, left, asked_again))
        turns = answered(again)
        assert turns == list(range(1, len(turns) + 1)), length
        assert len(asked_again) == len(turns) - paid, length
        output = InlinePayload(value=f"answer {len(turns)}")
        assert again.events[-1] == ExecutionCompleted(output=output), length
        # What was recorded with an answer is not asked otherwise, or the leg had said that it diverged.
        for last in asked_again[-1:]:
            heard = [each.partition(": ")[2] for each in last]
            assert heard == ["Go.", *MESSAGES.values()], length


async def test_the_next_execution_is_told_what_one_that_failed_was_not(make_runner: Make) -> None:
    from agent_runner.journal.conversation import messages_of

    server, asked = Server(tools=["shell"], limits={"turns": 1}), list[list[str]]()
    answer = work_for(2, server, {1: ["Be quick."]}, asked)
    assert await make_runner(server, answer).run("exe_1", TRY) == ENDED
    assert isinstance(server.events[-1], ExecutionFailed)

    async def load(payload: object) -> object:
        return payload.value if isinstance(payload, InlinePayload) else None

    opened = [opening(server), *server.log[1:]]
    messages = await messages_of(opened, load)  # type: ignore[arg-type]
    assert said_in(messages) == ["0: Go.", "2: Be quick."]


def opening(server: Server) -> RecordedEvent:
    started = {
        "type": "execution.started",
        "session_id": "ses_1",
        "agent_name": "main",
        "spec": json.loads(server.spec.model_dump_json(by_alias=True)),
        "input": {"kind": "inline", "value": "Go."},
    }
    return RecordedEvent.model_validate(
        {"sequence": 1, "recorded_at": server.now.isoformat(), "attempt": None, "event": started}
    )


@pytest.mark.parametrize(
    ("in_results", "contents"),
    [
        (False, ["made", "Be quick.\n\nAnd kind.\n\nHurry."]),
        (
            True,
            [
                "made\n\n[The person says meanwhile]\nBe quick.\n\n"
                "[The person says meanwhile]\nAnd kind.\n\nHurry."
            ],
        ),
    ],
)
def test_what_is_said_behind_a_result_goes_into_it_where_a_model_takes_nothing_else(
    in_results: bool, contents: list[str]
) -> None:
    at = "2026-01-01T00:00:00Z"
    note = read_note({"text": "Hurry.", "told": {}, "at": at})
    said = [read_message("Be quick.", 4, at), read_message("And kind.", 5, at)]
    request = ModelRequest(parts=[ToolReturnPart("make", "made", "c1"), *said, note])

    placed = with_notes_in_place(request, in_results=in_results)

    assert isinstance(placed, ModelRequest)
    parts = [part for part in placed.parts if isinstance(part, UserPromptPart | ToolReturnPart)]
    assert [part.content for part in parts] == contents
