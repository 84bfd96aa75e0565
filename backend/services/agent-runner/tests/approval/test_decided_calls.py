"""What a decision about a call leads to: what is asked, with which arguments it runs, what is told of it."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic_ai.messages import ModelResponse, ToolCallPart

from agent_runner.legs import ActivityAttempt, LegRunner
from leg_server import SESSION, Answer, Server, leg_runner
from mcp_legs import calls, results
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    ExecutionFailed,
    ExecutionRetried,
    InlinePayload,
    InputRequested,
    InputResolved,
    ToolFinished,
    ToolStarted,
)
from stigmer_contract.inputs import Approval, InputOutcome
from stigmer_contract.temporal import LegOutcome
from stigmer_isolation.launcher import CommandLauncher

TRY = ActivityAttempt("try-1", b"token")
ECHO: Final[dict[str, Any]] = {
    "name": "echo",
    "description": "Says it again.",
    "command": ["cat"],
    "parameters": {"type": "object", "properties": {"text": {"type": "string", "maxLength": 5}}},
}
ASK: Final = [{"tool": "*", "policy": "ask"}]
Make = Callable[[Server, Answer], LegRunner]


@pytest.fixture
async def make_runner(tmp_path: Path) -> AsyncGenerator[Make]:
    (tmp_path / SESSION).mkdir(mode=0o700)
    async with CommandLauncher() as launcher:
        yield lambda server, answer: leg_runner(server, answer, launcher, tmp_path)


def asked(server: Server) -> list[InputRequested]:
    return [event for event in server.events if isinstance(event, InputRequested)]


def approve(server: Server, request: InputRequested, **arguments: Any) -> None:
    server.write(
        InputResolved(
            input_id=request.input_id,
            outcome=InputOutcome.APPROVED,
            arguments=InlinePayload(value=arguments) if arguments else None,
        )
    )


async def test_a_call_whose_arguments_the_tool_refuses_is_never_asked_about(make_runner: Make) -> None:
    server = Server(scripts=[ECHO], approval=ASK)
    both = [ToolCallPart("echo", {"text": text}, text) for text in ("too long", "a")]

    ended = await make_runner(server, lambda _: ModelResponse(parts=both)).run("exe_1", TRY)

    assert ended.outcome is LegOutcome.WAITING
    assert [request.call_id for request in asked(server)] == ["a"]


async def test_arguments_that_a_person_gives_are_held_against_the_scripts_own_schema(
    make_runner: Make,
) -> None:
    server, answer = Server(scripts=[ECHO], approval=ASK), calls(("echo", {"text": "a"}))
    assert (await make_runner(server, answer).run("exe_1", TRY)).outcome is LegOutcome.WAITING
    approve(server, asked(server)[0], text="too long")
    assert (await make_runner(server, answer).run("exe_1", TRY)).outcome is LegOutcome.WAITING
    _, again = asked(server)
    assert isinstance(again.content, InlinePayload)
    why = Approval.model_validate(again.content.value).again or ""
    assert why.startswith("the arguments that the person gave do not fit the tool: ")
    assert not [event for event in server.events if isinstance(event, ToolStarted)]

    approve(server, again, text="short")
    await make_runner(server, answer).run("exe_1", TRY)

    [result] = results(server)
    assert result.text.endswith('{"text": "short"}')


@pytest.mark.parametrize("of", ["question", "client tool"])
async def test_what_was_open_when_the_execution_failed_is_asked_again_after_a_retry(
    make_runner: Make, of: str
) -> None:
    if of == "question":
        server, answer = Server(askUser=True), calls(("ask_user", {"question": "Which?"}))
    else:
        schema: dict[str, Any] = {"type": "object", "properties": {}}
        tool: dict[str, Any] = {"name": "pick", "description": "Picks.", "parameters": schema}
        server, answer = Server(clientTools=[tool]), calls(("pick", {}))
    assert (await make_runner(server, answer).run("exe_1", TRY)).outcome is LegOutcome.WAITING
    for _ in range(2):
        # What the server writes when it fails, and when somebody lets it go on.
        server.write(InputResolved(input_id=asked(server)[-1].input_id, outcome=InputOutcome.CANCELLED))
        server.write(ExecutionFailed(code=ErrorCode.RUNNER_LOST, message="It is gone."))
        server.write(ExecutionRetried())
        assert (await make_runner(server, answer).run("exe_1", TRY)).outcome is LegOutcome.WAITING

    requests = asked(server)
    assert [(each.call_id, each.nth, each.title) for each in requests] == [
        (requests[0].call_id, nth, requests[0].title) for nth in (1, 2, 3)
    ]
    last = InlinePayload(value="the third")
    outcome = InputOutcome.ANSWERED
    server.write(InputResolved(input_id=requests[-1].input_id, outcome=outcome, answer=last))
    await make_runner(server, answer).run("exe_1", TRY)
    assert len(asked(server)) == 3
    [result] = results(server)
    assert (result.outcome, "the third" in result.text) == (ToolOutcome.SUCCEEDED, True)


async def test_a_call_that_had_begun_is_never_said_not_to_have_run_whatever_rules_say_now(
    make_runner: Make,
) -> None:
    server, answer = Server(tools=["shell"]), calls(("run_command", {"command": "echo ran >> done"}))
    await make_runner(server, answer).run("exe_1", TRY)
    begun = next(at for at, event in enumerate(server.events) if isinstance(event, ToolFinished))
    del server.log[begun:]  # as if the runner had died while the call ran
    denied = [{"tool": "shell", "policy": "deny"}]
    server.spec = server.spec.model_validate(
        {"instructions": "Work.", "tools": ["shell"], "approval": denied}
    )

    await make_runner(server, answer).run("exe_1", ActivityAttempt("try-2", b"next"))

    assert [result.outcome for result in results(server)] == [ToolOutcome.UNKNOWN]
