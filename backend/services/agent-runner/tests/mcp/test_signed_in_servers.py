"""MCP servers at which people sign in: called with what that led to, which no text of the execution shows."""

from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_runner.legs import ActivityAttempt, LegRunner
from leg_server import SESSION, Answer, Server, leg_runner
from mcp_legs import calls, results
from mcp_sign_in_server import Grant, McpSignInServer
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import EVENT_ADAPTER, ExecutionFailed
from stigmer_contract.mcp_logins import McpToken, rejected_digest
from stigmer_isolation.launcher import CommandLauncher

TRY = ActivityAttempt("try-1", b"token")
Make = Callable[[Server, Answer], LegRunner]
ADD = ("shop__add", {"a": 2, "b": 3})


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncGenerator[CommandLauncher]:
    (tmp_path / SESSION).mkdir(mode=0o700)
    async with CommandLauncher() as launcher:
        yield launcher


@pytest.fixture
def make_runner(tmp_path: Path, launcher: CommandLauncher) -> Make:
    return lambda server, answer: leg_runner(
        server, answer, launcher, tmp_path, environment={"STIGMER_MCP_ALLOW_HOSTS": "127.0.0.1"}
    )


@pytest.fixture(params=[False, True], ids=["json", "stream"])
def web(request: pytest.FixtureRequest) -> Iterator[McpSignInServer]:
    with McpSignInServer(streams=request.param) as server:
        yield server


def at(web: McpSignInServer, **fields: Any) -> dict[str, Any]:
    return {"name": "shop", "url": web.url, **fields}


def issue(web: McpSignInServer) -> str:
    """A token that the server takes."""
    grant = Grant(client_id="c", redirect_uri="r", challenge="", resource=web.url, scope="read")
    return web.authorization.issue(grant)["access_token"]


def command(web: McpSignInServer) -> str:
    return f"run `stigmer mcp login {web.url}`"


async def test_a_server_is_called_with_the_sign_in_and_no_event_shows_it(
    make_runner: Make, web: McpSignInServer
) -> None:
    server, token = Server(mcpServers=[at(web)]), issue(web)
    server.token_of = lambda rejected: McpToken(access_token=token)
    await make_runner(server, calls(ADD, ADD)).run("exe_1", TRY)
    assert [result.text for result in results(server)] == ["5", "5"]
    assert server.wanted_tokens == [None]
    assert not [event for event in server.events if token.encode() in EVENT_ADAPTER.dump_json(event)]


async def test_a_token_that_a_server_repeats_is_masked(make_runner: Make, web: McpSignInServer) -> None:
    server, token = Server(mcpServers=[at(web)]), issue(web)
    server.token_of = lambda rejected: McpToken(access_token=token)
    web.says = f"I was called with {token}"
    await make_runner(server, calls(ADD)).run("exe_1", TRY)
    assert [result.text for result in results(server)] == [
        "I was called with [secret of the sign-in at shop]"
    ]


async def test_a_token_that_ends_in_the_middle_is_replaced_and_the_conversation_goes_on(
    make_runner: Make, web: McpSignInServer
) -> None:
    server, tokens = Server(mcpServers=[at(web)]), [issue(web)]

    def token_of(rejected: str | None) -> McpToken:
        if rejected is not None:
            assert rejected == rejected_digest(tokens[-1])
            tokens.append(issue(web))
        return McpToken(access_token=tokens[-1])

    server.token_of = token_of
    web.ends_tokens_after_calls = 1
    await make_runner(server, calls(ADD, ADD)).run("exe_1", TRY)
    assert [result.text for result in results(server)] == ["5", "5"]
    assert (len(tokens), web.calls) == (2, ["add", "add"])


async def test_without_a_sign_in_the_execution_says_how_to_sign_in(
    make_runner: Make, web: McpSignInServer
) -> None:
    server = Server(mcpServers=[at(web)])
    await make_runner(server, calls(ADD)).run("exe_1", TRY)
    [*_, failed] = server.events
    assert isinstance(failed, ExecutionFailed)
    assert failed.code is ErrorCode.MCP_SERVER_UNAVAILABLE
    asked = "the MCP server 'shop' asks for authorisation (status 401)"
    assert failed.message == f"{asked}: nobody has signed in; {command(web)}"


async def test_a_header_of_the_manifest_s_own_is_never_replaced(
    make_runner: Make, web: McpSignInServer
) -> None:
    server = Server(mcpServers=[at(web, headers={"authorization": "Bearer wrong"})])
    server.token_of = lambda rejected: McpToken(access_token=issue(web))
    await make_runner(server, calls(ADD)).run("exe_1", TRY)
    [*_, failed] = server.events
    assert isinstance(failed, ExecutionFailed)
    assert failed.message.endswith("it does not take the header Authorization of the manifest")
    assert server.wanted_tokens == []


async def test_a_sign_in_that_is_over_is_told_in_one_line(make_runner: Make, web: McpSignInServer) -> None:
    server, token = Server(mcpServers=[at(web)]), issue(web)
    server.token_of = lambda rejected: (
        McpToken(access_token=token)
        if rejected is None
        else McpToken(problem="it has expired, or was taken back")
    )
    web.ends_tokens_after_calls = 1
    await make_runner(server, calls(ADD, ADD)).run("exe_1", TRY)
    first, second = results(server)
    assert (first.text, second.outcome) == ("5", ToolOutcome.FAILED)
    assert second.text.endswith(f"the sign-in is over: it has expired, or was taken back; {command(web)}")
