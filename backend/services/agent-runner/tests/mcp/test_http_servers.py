"""MCP servers at a URL: called, begun anew, truthful about what became of a call; not at every address."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from agent_runner.legs import ActivityAttempt, LegRunner
from agent_runner.mcp_servers import http
from agent_runner.outward import why_refused
from leg_server import Answer, Server
from mcp_http_server import McpHttpServer
from mcp_legs import calls, results
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.events import EVENT_ADAPTER, ExecutionFailed

TRY = ActivityAttempt("try-1", b"token")
Make = Callable[[Server, Answer], LegRunner]
ADD = ("shop__add", {"a": 2, "b": 3})
ANEW = "[the conversation with the server 'shop' was begun anew: what it knew may be gone]\n"


@pytest.fixture(params=[False, True], ids=["json", "stream"])
def web(request: pytest.FixtureRequest) -> Iterator[McpHttpServer]:
    with McpHttpServer(streams=request.param) as server:
        yield server


def at(web: McpHttpServer, **fields: Any) -> dict[str, Any]:
    return {"name": "shop", "url": web.url, **fields}


async def test_a_tool_is_called_with_the_server_s_own_headers(
    make_web_runner: Make, web: McpHttpServer
) -> None:
    server = Server(mcpServers=[at(web, headers={"Authorization": {"secret": "TOKEN"}, "X-Plain": "yes"})])
    server.secrets = {"TOKEN": SecretStr("Bearer a-canary-4711")}
    web.demands = "Bearer a-canary-4711"
    await make_web_runner(server, calls(ADD)).run("exe_1", TRY)
    assert [result.text for result in results(server)] == ["5"]
    assert {seen.get("x-plain") for seen in web.seen} == {"yes"}
    assert {seen.get("accept-encoding") for seen in web.seen} == {"identity"}
    assert not [event for event in server.events if b"a-canary-4711" in EVENT_ADAPTER.dump_json(event)]
    assert web.sessions == set()


@pytest.mark.parametrize("status", [404, 503])
async def test_a_conversation_that_is_gone_is_begun_anew(
    make_web_runner: Make, web: McpHttpServer, status: int
) -> None:
    server = Server(mcpServers=[at(web)])
    web.refuses_with = status
    await make_web_runner(server, calls(ADD, ADD)).run("exe_1", TRY)
    assert [result.text for result in results(server)] == [f"{ANEW}5", "5"]
    assert web.calls == ["add", "add"]


async def test_a_call_whose_answer_breaks_off_is_unknown_unless_it_only_reads(
    make_web_runner: Make, web: McpHttpServer
) -> None:
    server = Server(mcpServers=[at(web)])
    await make_web_runner(server, calls(("shop__cut", {}), ADD)).run("exe_1", TRY)
    cut, added = results(server)
    assert (cut.outcome, added.text) == (ToolOutcome.UNKNOWN, f"{ANEW}5")
    web.calls.clear()
    reading = Server(mcpServers=[at(web, readOnly=["cut"])])
    await make_web_runner(reading, calls(("shop__cut", {"a": 1, "b": 1}))).run("exe_1", TRY)
    assert [result.text for result in results(reading)] == [f"{ANEW}2"]
    assert web.calls == ["cut", "cut"]


async def test_why_a_server_cannot_be_had_is_one_line(make_web_runner: Make, web: McpHttpServer) -> None:
    web.demands = "Bearer other"
    with McpHttpServer() as gone:
        pass
    for url, message in (
        (web.url, "the MCP server 'shop' asks for authorisation (status 401)"),
        (gone.url, "could not reach MCP server 'shop': "),
        (
            web.url.replace("127.0.0.1", "localhost"),
            "could not reach MCP server 'shop': 'localhost' is this machine itself, which the",
        ),
    ):
        server = Server(mcpServers=[{"name": "shop", "url": url}])
        await make_web_runner(server, calls()).run("exe_1", TRY)
        failed = server.events[-1]
        assert isinstance(failed, ExecutionFailed)
        assert failed.code == "mcp_server_unavailable"
        assert failed.message.startswith(message)


@pytest.mark.parametrize(
    "host", ["127.0.0.1.", "0x7f.1", "127.1", "2130706433", "[::1]", "a.localhost", "localhost."]
)
async def test_this_machine_is_not_reached_through_a_proxy_however_it_is_written(
    make_web_runner: Make, web: McpHttpServer, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", web.url.removesuffix("/mcp"))
    server = Server(mcpServers=[{"name": "shop", "url": f"http://{host}:8080/mcp"}])
    await make_web_runner(server, calls()).run("exe_1", TRY)
    failed = server.events[-1]
    assert isinstance(failed, ExecutionFailed)
    assert "is this machine itself" in failed.message


async def test_a_compressed_answer_is_refused_for_it_may_become_any_number_of_bytes(
    make_web_runner: Make, web: McpHttpServer
) -> None:
    server = Server(mcpServers=[at(web)])
    web.compresses = True
    await make_web_runner(server, calls(ADD)).run("exe_1", TRY)
    [result] = results(server)
    assert result.outcome is ToolOutcome.UNKNOWN
    assert "the answer is compressed, which was not asked for" in result.text


async def test_a_name_with_an_address_at_which_nobody_listens_is_reached_at_its_other_one(
    make_web_runner: Make, web: McpHttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find(*_: object) -> list[str]:
        return ["::1", "127.0.0.1"]  # as `localhost` often has, where a server listens on the latter alone

    monkeypatch.setattr(http, "find_addresses", find)
    server = Server(mcpServers=[at(web)])
    await make_web_runner(server, calls(ADD)).run("exe_1", TRY)
    assert [result.text for result in results(server)] == ["5"]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::"),  # noqa: S104 - none is bound
        *("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1", "255.255.255.255"),
        *("169.254.169.254", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"),
        *("fd00:ec2::254", "100.100.100.200", "168.63.129.16"),
    ],
)
def test_addresses_that_only_this_machine_is_to_call_are_refused(address: str) -> None:
    assert why_refused(address) is not None


@pytest.mark.parametrize("address", ["8.8.8.8", "10.1.2.3", "192.168.0.7", "2606:4700::1111", "100.64.0.1"])
def test_other_addresses_may_be_called(address: str) -> None:
    assert why_refused(address) is None
