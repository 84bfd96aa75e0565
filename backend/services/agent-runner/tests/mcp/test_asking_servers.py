"""MCP servers that ask in the middle of a call: a person by the inbox, our model where they may."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart

from agent_runner.journal import middle_of_calls
from agent_runner.legs import ActivityAttempt, LegRunner
from agent_runner.mcp_servers.faults import AnswerRefused
from agent_runner.mcp_servers.questions import model_asked, person_asked
from leg_server import Answer, Server
from mcp_legs import STAND_INS, calls, inline, results
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.events import InlinePayload, InputRequested, InputResolved, LegEnded, StepFinished
from stigmer_contract.inputs import InputOutcome
from stigmer_contract.temporal import LegOutcome

TRIES = [ActivityAttempt(f"try-{n}", b"token") for n in range(1, 5)]
Make = Callable[[Server, Answer], LegRunner]


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middle_of_calls, "LOOK_SECONDS", 0.02)


@pytest.fixture
def program(workspace: Path) -> Path:
    (workspace / "asking.py").write_bytes((STAND_INS / "asking_server.py").read_bytes())
    return workspace


def asking(*arguments: str, **fields: Any) -> dict[str, Any]:
    return {
        "name": "asking",
        "command": [sys.executable, "asking.py", "asking.journal", *arguments],
        **fields,
    }


def journal(workspace: Path) -> list[str]:
    lines = (workspace / "asking.journal").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("capabilities")]


def asked(server: Server) -> list[InputRequested]:
    return [event for event in server.events if isinstance(event, InputRequested)]


def resolve(server: Server, outcome: InputOutcome, answer: Any = None) -> None:
    payload = None if answer is None else InlinePayload(value=answer)
    server.write(InputResolved(input_id=asked(server)[-1].input_id, outcome=outcome, answer=payload))


async def once_asked(server: Server) -> None:
    async with server.written, asyncio.timeout(120):
        await server.written.wait_for(lambda: bool(asked(server)))


def test_a_field_that_an_answer_leaves_out_has_the_default_that_the_server_says() -> None:
    fields = {
        "name": {"type": "string", "default": "Ada"},
        "age": {"type": "integer", "default": 30},
        "why": {"type": "string"},
    }
    schema = {"type": "object", "properties": fields}
    form = person_asked("s", "t", {"message": "Who?", "requestedSchema": schema})
    assert form.accepted({"age": 31}) == {"action": "accept", "content": {"name": "Ada", "age": 31}}


@pytest.mark.parametrize(
    ("outcome", "answer", "told"),
    [
        (InputOutcome.ANSWERED, {"name": "Ada"}, {"action": "accept", "content": {"name": "Ada"}}),
        (InputOutcome.DENIED, None, {"action": "decline"}),
        (InputOutcome.EXPIRED, None, {"action": "cancel"}),
    ],
)
async def test_what_a_server_asks_is_answered_by_a_person_while_its_call_is_held_open(
    make_runner: Make, program: Path, outcome: InputOutcome, answer: Any, told: Any
) -> None:
    server = Server(mcpServers=[asking()])
    running = asyncio.create_task(make_runner(server, calls(("asking__greet", {}))).run("exe_1", TRIES[0]))
    await once_asked(server)
    resolve(server, outcome, answer)
    assert (await running).outcome is LegOutcome.ENDED
    [result] = results(server)
    assert (result.outcome, json.loads(result.text)) == (ToolOutcome.SUCCEEDED, told)
    [question] = asked(server)
    assert (question.toolset, question.tool, question.title) == ("asking", "asking__greet", "Who is it?")
    assert question.answer_schema is not None
    assert list(question.answer_schema["properties"]) == ["name"]  # type: ignore[arg-type]
    assert journal(program) == ["started", "call greet", "answered"]


async def test_a_call_is_not_held_open_for_ever_and_made_again_only_where_that_is_harmless(
    make_runner: Make, program: Path
) -> None:
    server = Server(mcpServers=[asking(askWait="1s", readOnly=["greet"])])
    runner = make_runner(server, calls(("asking__greet", {})))
    assert (await runner.run("exe_1", TRIES[0])).outcome is LegOutcome.WAITING
    # That it is over, the server is told as the answer to its question, too.
    assert journal(program)[:3] == ["started", "call greet", "cancelled"]
    # No server is started while nobody has answered.
    assert (await runner.run("exe_1", TRIES[1])).outcome is LegOutcome.WAITING
    assert journal(program).count("started") == 1
    resolve(server, InputOutcome.ANSWERED, {"name": "Ada"})
    assert (await runner.run("exe_1", TRIES[2])).outcome is LegOutcome.ENDED
    [result] = results(server)
    assert json.loads(result.text)["content"] == {"name": "Ada"}
    assert len(asked(server)) == 1
    assert journal(program)[-3:] == ["started", "call greet", "answered"]


async def test_a_call_that_may_have_changed_something_is_told_of_with_the_late_answer(
    make_runner: Make, program: Path
) -> None:
    server = Server(mcpServers=[asking(askWait="1s")])
    runner = make_runner(server, calls(("asking__greet", {})))
    assert (await runner.run("exe_1", TRIES[0])).outcome is LegOutcome.WAITING
    resolve(server, InputOutcome.ANSWERED, {"name": "Ada"})
    assert (await runner.run("exe_1", TRIES[1])).outcome is LegOutcome.ENDED
    [result] = results(server)
    assert result.outcome is ToolOutcome.UNKNOWN
    assert result.text.endswith('a person was asked: Who is it?\nThe person answered: {"name": "Ada"}')
    assert journal(program).count("call greet") == 1


async def test_a_question_of_the_newer_protocol_outlives_the_server_and_the_leg(
    make_runner: Make, program: Path
) -> None:
    server = Server(mcpServers=[asking("modern")])
    runner = make_runner(server, calls(("asking__greet", {})))
    assert (await runner.run("exe_1", TRIES[0])).outcome is LegOutcome.WAITING
    assert isinstance(server.events[-1], LegEnded)
    resolve(server, InputOutcome.ANSWERED, {"name": "Ada"})
    assert (await runner.run("exe_1", TRIES[1])).outcome is LegOutcome.ENDED
    [result] = results(server)
    assert (result.outcome, json.loads(result.text)["content"]) == (ToolOutcome.SUCCEEDED, {"name": "Ada"})
    assert journal(program) == ["started", "call greet", "started", "call greet", "state s-1"]


@pytest.mark.parametrize("era", [(), ("modern",)])
async def test_a_page_is_shown_and_never_opened(make_runner: Make, program: Path, era: tuple[str]) -> None:
    server = Server(mcpServers=[asking(*era, readOnly=["page"], askWait="1s")])
    runner = make_runner(server, calls(("asking__page", {})))
    await runner.run("exe_1", TRIES[0])
    [question] = asked(server)
    content = inline(question.content)
    assert content["text"].splitlines()[-1] == "https://example.com/sign-in"
    resolve(server, InputOutcome.ANSWERED, content["choices"][0])
    await runner.run("exe_1", TRIES[1])
    [result] = results(server)
    assert json.loads(result.text) == {"action": "accept"}


async def test_a_page_that_is_to_be_seen_first_leads_to_the_call_anew(
    make_runner: Make, program: Path
) -> None:
    server = Server(mcpServers=[asking()])
    runner = make_runner(server, calls(("asking__needs_page", {})))
    assert (await runner.run("exe_1", TRIES[0])).outcome is LegOutcome.WAITING
    resolve(server, InputOutcome.ANSWERED, inline(asked(server)[0].content)["choices"][0])
    await runner.run("exe_1", TRIES[1])
    [result] = results(server)
    assert result.text == "welcome"


@pytest.mark.parametrize("era", [(), ("modern",)])
async def test_a_server_asks_our_model_only_where_the_manifest_lets_it(
    make_runner: Make, program: Path, era: tuple[str]
) -> None:
    server = Server(mcpServers=[asking(*era)])
    await make_runner(server, calls(("asking__think", {}))).run("exe_1", TRIES[0])
    [result] = results(server)
    assert "ampling" in result.text
    assert not [e for e in server.events if isinstance(e, StepFinished) and e.kind == "tool.sampled"]


@pytest.mark.parametrize("era", [(), ("modern",)])
async def test_what_our_model_says_to_a_server_is_written_down_and_counted(
    make_runner: Make, program: Path, era: tuple[str]
) -> None:
    server = Server(mcpServers=[asking(*era, sampling="allow")])
    agent = calls(("asking__think", {}))

    def answer(messages: list[ModelMessage]) -> Any:
        if "2+2?" in str(messages[-1]):
            return ModelResponse(parts=[TextPart("4")])
        return agent(messages)

    await make_runner(server, answer).run("exe_1", TRIES[0])
    [result] = results(server)
    assert json.loads(result.text)["content"] == {"type": "text", "text": "4"}
    [step] = [e for e in server.events if isinstance(e, StepFinished) and e.kind == "tool.sampled"]
    assert inline(step.result)["text"] == "4"
    assert step.usage is not None
    assert step.usage.requests == 0


async def test_roots_are_the_workspace_in_the_newer_form_as_well(make_runner: Make, program: Path) -> None:
    for era in ((), ("modern",)):
        server = Server(mcpServers=[asking(*era)])
        await make_runner(server, calls(("asking__roots", {}))).run("exe_1", TRIES[0])
        [result] = results(server)
        assert result.text == "roots workspace"


async def test_an_address_that_is_no_page_is_not_shown_to_anybody(make_runner: Make, program: Path) -> None:
    server = Server(mcpServers=[asking()])
    await make_runner(server, calls(("asking__odd", {}))).run("exe_1", TRIES[0])
    [result] = results(server)
    assert "accept" not in result.text
    assert asked(server) == []


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"message": " "},
        {"message": "x" * 20_001, "requestedSchema": {"type": "object", "properties": {}}},
        {"message": "x", "requestedSchema": {"type": "string"}},
        {"message": "x", "requestedSchema": {"type": "object", "properties": {"a": {"$ref": "http://x"}}}},
        {"message": "x", "mode": "url", "url": "https://x/\nfalse"},
        {"message": "x", "mode": "url", "url": "file:///etc/passwd"},
    ],
)
def test_questions_that_cannot_be_asked_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(AnswerRefused):
        person_asked("s", "t", params)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"messages": []},
        {"messages": [{"role": "user", "content": {"type": "hologram"}}]},
        {"messages": [{"role": "assistant", "content": {"type": "text", "text": "x"}}]},
        {"messages": [{"role": "user", "content": {"type": "image", "data": "?", "mimeType": "image/png"}}]},
        {"messages": [{"role": "user", "content": {"type": "text", "text": "x" * 400_001}}]},
        {"messages": [{"role": "user", "content": {"type": "text", "text": "x"}}], "tools": [{"name": "t"}]},
    ],
)
def test_what_the_model_cannot_be_asked_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(AnswerRefused):
        model_asked(params)
