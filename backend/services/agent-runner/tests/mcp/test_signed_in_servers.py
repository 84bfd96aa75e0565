"""MCP servers at which people sign in: called with what that led to, which no text of the execution shows."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent_runner.legs import ActivityAttempt, LegRunner
from leg_server import Answer, Server
from mcp_legs import calls, results
from mcp_sign_in_server import Grant, McpSignInServer
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    EVENT_ADAPTER,
    ExecutionFailed,
    InlinePayload,
    InputRequested,
    InputResolved,
)
from stigmer_contract.inputs import SIGNED_IN, InputKind, InputOutcome, Login
from stigmer_contract.inspections import CalledTool, Inspection
from stigmer_contract.mcp_logins import McpToken, rejected_digest
from stigmer_contract.temporal import LegOutcome

TRY, SECOND_TRY, THIRD_TRY = (ActivityAttempt(f"try-{n}", b"token") for n in range(1, 4))
Make = Callable[[Server, Answer], LegRunner]
ADD = ("shop__add", {"a": 2, "b": 3})


@pytest.fixture(params=[False, True], ids=["json", "stream"])
def web(request: pytest.FixtureRequest) -> Iterator[McpSignInServer]:
    with McpSignInServer(streams=request.param) as server:
        yield server


def at(web: McpSignInServer, **fields: Any) -> dict[str, Any]:
    return {"name": "shop", "url": web.url, **fields}


def issue(web: McpSignInServer, scope: str = "read") -> str:
    """A token that the server takes."""
    grant = Grant(client_id="c", redirect_uri="r", challenge="", resource=web.url, scope=scope)
    return web.authorization.issue(grant)["access_token"]


def command(web: McpSignInServer) -> str:
    return f"run `stigmer mcp login {web.url}`"


async def test_a_server_is_called_with_the_sign_in_and_no_event_shows_it(
    make_web_runner: Make, web: McpSignInServer
) -> None:
    server, token = Server(mcpServers=[at(web)]), issue(web)
    server.token_of = lambda rejected: McpToken(access_token=token)
    await make_web_runner(server, calls(ADD, ADD)).run("exe_1", TRY)
    assert [result.text for result in results(server)] == ["5", "5"]
    assert server.wanted_tokens == [None]
    assert not [event for event in server.events if token.encode() in EVENT_ADAPTER.dump_json(event)]


async def test_a_token_that_a_server_repeats_is_masked(make_web_runner: Make, web: McpSignInServer) -> None:
    server, token = Server(mcpServers=[at(web)]), issue(web)
    server.token_of = lambda rejected: McpToken(access_token=token)
    web.says = f"I was called with {token}"
    await make_web_runner(server, calls(ADD)).run("exe_1", TRY)
    assert [result.text for result in results(server)] == [
        "I was called with [secret of the sign-in at shop]"
    ]


async def test_a_token_that_ends_in_the_middle_is_replaced_and_the_conversation_goes_on(
    make_web_runner: Make, web: McpSignInServer
) -> None:
    server, tokens = Server(mcpServers=[at(web)]), [issue(web)]

    def token_of(rejected: str | None) -> McpToken:
        if rejected is not None:
            assert rejected == rejected_digest(tokens[-1])
            tokens.append(issue(web))
        return McpToken(access_token=tokens[-1])

    server.token_of = token_of
    web.ends_tokens_after_calls = 1
    await make_web_runner(server, calls(ADD, ADD)).run("exe_1", TRY)
    assert [result.text for result in results(server)] == ["5", "5"]
    assert (len(tokens), web.calls) == (2, ["add", "add"])


async def test_without_a_sign_in_the_execution_says_how_to_sign_in(
    make_web_runner: Make, web: McpSignInServer
) -> None:
    server = Server(mcpServers=[at(web)])
    await make_web_runner(server, calls(ADD)).run("exe_1", TRY)
    [*_, failed] = server.events
    assert isinstance(failed, ExecutionFailed)
    assert failed.code is ErrorCode.MCP_SERVER_UNAVAILABLE
    asked = "the MCP server 'shop' asks for authorisation (status 401)"
    assert failed.message == f"{asked}: nobody has signed in; {command(web)}"


async def test_a_header_of_the_manifest_s_own_is_never_replaced(
    make_web_runner: Make, web: McpSignInServer
) -> None:
    server = Server(mcpServers=[at(web, headers={"authorization": "Bearer wrong"})])
    server.token_of = lambda rejected: McpToken(access_token=issue(web))
    await make_web_runner(server, calls(ADD)).run("exe_1", TRY)
    [*_, failed] = server.events
    assert isinstance(failed, ExecutionFailed)
    assert failed.message.endswith("it does not take the header Authorization of the manifest")
    assert server.wanted_tokens == []


async def test_a_sign_in_that_is_over_is_told_in_one_line_to_who_calls_a_tool_by_hand(
    make_web_runner: Make, web: McpSignInServer
) -> None:
    server, token = Server(mcpServers=[at(web)]), issue(web)
    over = McpToken(problem="it has expired, or was taken back")
    server.token_of = lambda rejected: McpToken(access_token=token) if rejected is None else over
    called = CalledTool(server="shop", tool="add", arguments={"a": 2, "b": 3})
    server.inspection = Inspection(call=called)
    web.refuses_calls = True
    await make_web_runner(server, calls()).run("exe_1", TRY)
    [result] = results(server)
    assert result.outcome is ToolOutcome.FAILED
    assert result.text.endswith(f"the sign-in is over: it has expired, or was taken back; {command(web)}")


def asked(server: Server) -> list[InputRequested]:
    return [event for event in server.events if isinstance(event, InputRequested)]


def resolve(server: Server, outcome: InputOutcome, **fields: Any) -> None:
    server.write(InputResolved(input_id=asked(server)[-1].input_id, outcome=outcome, **fields))


async def test_a_call_waits_until_a_person_has_signed_in_and_is_then_made_for_the_first_time(
    make_web_runner: Make, web: McpSignInServer
) -> None:
    tokens, over = [issue(web)], McpToken(problem="it has expired, or was taken back")

    def token_of(rejected: str | None) -> McpToken:
        return over if rejected == rejected_digest(tokens[-1]) else McpToken(access_token=tokens[-1])

    server = Server(mcpServers=[at(web)])
    server.token_of = token_of
    web.ends_tokens_after_calls = 1
    runner = make_web_runner(server, calls(ADD, ADD))
    assert (await runner.run("exe_1", TRY)).outcome is LegOutcome.WAITING
    [login] = asked(server)
    assert (login.kind, login.toolset, login.title) == (InputKind.LOGIN, "shop", f"Sign in at {web.url}")
    # Another leg, without anything new: it still waits, and asks nobody anew.
    assert (await runner.run("exe_1", SECOND_TRY)).outcome is LegOutcome.WAITING
    tokens.append(issue(web))
    resolve(server, InputOutcome.ANSWERED, answer=InlinePayload(value=SIGNED_IN))
    assert (await runner.run("exe_1", THIRD_TRY)).outcome is LegOutcome.ENDED
    assert [result.text for result in results(server)] == ["5", "5"]
    assert (web.calls, len(asked(server))) == (["add", "add"], 1)


async def test_who_may_not_do_that_is_asked_to_sign_in_for_more(
    make_web_runner: Make, web: McpSignInServer
) -> None:
    web.authorization.adds_scope_for_calls = "write"
    server, tokens = Server(mcpServers=[at(web)]), [issue(web)]
    server.token_of = lambda rejected: McpToken(access_token=tokens[-1])
    runner = make_web_runner(server, calls(ADD))
    assert (await runner.run("exe_1", TRY)).outcome is LegOutcome.WAITING
    [login] = asked(server)
    assert isinstance(login.content, InlinePayload)
    content = Login.model_validate(login.content.value)
    assert (content.status, content.challenge) == (403, 'Bearer error="insufficient_scope", scope="write"')
    tokens.append(issue(web, "read write"))
    resolve(server, InputOutcome.ANSWERED, answer=InlinePayload(value=SIGNED_IN))
    assert (await runner.run("exe_1", SECOND_TRY)).outcome is LegOutcome.ENDED
    assert [result.text for result in results(server)] == ["5"]


async def test_who_says_no_is_told_to_the_model_and_nothing_was_called(
    make_web_runner: Make, web: McpSignInServer
) -> None:
    web.authorization.adds_scope_for_calls = "write"
    server, token = Server(mcpServers=[at(web)]), issue(web)
    server.token_of = lambda rejected: McpToken(access_token=token)
    runner = make_web_runner(server, calls(ADD))
    await runner.run("exe_1", TRY)
    resolve(server, InputOutcome.DENIED, reason="not for this")
    assert (await runner.run("exe_1", SECOND_TRY)).outcome is LegOutcome.ENDED
    [result] = results(server)
    assert (result.outcome, web.calls) == (ToolOutcome.FAILED, [])
    assert result.text.endswith("who declined to sign in: not for this")


async def test_whoever_keeps_saying_that_they_have_signed_in_is_not_asked_for_ever(
    make_web_runner: Make, web: McpSignInServer
) -> None:
    web.authorization.adds_scope_for_calls = "write"
    server, token = Server(mcpServers=[at(web)]), issue(web)
    server.token_of = lambda rejected: McpToken(access_token=token)
    runner, outcome, legs = make_web_runner(server, calls(ADD)), LegOutcome.WAITING, 0
    while outcome is LegOutcome.WAITING:
        legs += 1
        assert legs < 10
        outcome = (await runner.run("exe_1", ActivityAttempt(f"try-{legs}", b"token"))).outcome
        if outcome is LegOutcome.WAITING:
            resolve(server, InputOutcome.ANSWERED, answer=InlinePayload(value=SIGNED_IN))
    [result] = results(server)
    assert "the sign-in does not reach for that" in result.text
    assert len(asked(server)) == 3
