"""An agent's MCP servers over stdio: started when called, held in, ended, and truthful about what became."""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import SecretStr

from agent_runner.legs import ActivityAttempt, LegRunner
from agent_runner.mcp_servers import connection
from agent_runner.mcp_servers.servers import McpServers
from agent_runner.toolsets.call_in_hand import CallInHand, call_in_hand
from agent_runner.toolsets.mcp import McpToolset
from agent_runner.workspace import SessionWorkspace
from leg_server import Answer, Server
from mcp_legs import calls, inline, own_processes, plain, refuse_none, results
from stigmer_contract.api import LegGrant, Resumption, StartLeg
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.events import (
    EVENT_ADAPTER,
    Event,
    ExecutionCompleted,
    ExecutionFailed,
    HistoryStored,
    StepFinished,
    ToolFinished,
    ToolStarted,
)
from stigmer_contract.manifest_mcp import McpServer
from stigmer_contract.temporal import LegOutcome, LegResult
from stigmer_contract.tool_lists import ListedTool, ToolList
from stigmer_isolation.launcher import CommandLauncher

ENDED = LegResult(outcome=LegOutcome.ENDED)
TRY = ActivityAttempt("try-1", b"token")
Make = Callable[[Server, Answer], LegRunner]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine it may take long until it is known how a server ended that has closed its output."""
    monkeypatch.setattr(connection, "SETTLE_SECONDS", 120.0)


def of_kind(server: Server, *kinds: type[Event]) -> list[Event]:
    return [event for event in server.events if isinstance(event, kinds)]


def journal(workspace: Path, name: str = "plain") -> list[str]:
    file = workspace / f"{name}.journal"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


async def test_a_tool_of_a_server_is_called_and_nothing_of_it_outlives_the_leg(
    make_runner: Make, workspace: Path
) -> None:
    server = Server(mcpServers=[plain()])
    runner = make_runner(server, calls(("plain__add", {"a": 2, "b": 3}), ("plain__add", {"a": 4, "b": 5})))
    assert await runner.run("exe_1", TRY) == ENDED
    assert [result.text for result in results(server)] == ["5", "9"]
    [started, _] = of_kind(server, ToolStarted)
    assert isinstance(started, ToolStarted)
    assert (started.toolset, started.tool, started.side_effects) == ("plain", "plain__add", True)
    [listed] = [event for event in server.events if isinstance(event, StepFinished) and event.kind != "note"]
    assert (listed.kind, listed.key) == ("tools.listed", "mcp/plain")
    assert "add" in [tool["name"] for tool in inline(listed.result)["tools"]]
    assert journal(workspace) == ["started", "add", "add"]
    assert not [line for line in own_processes() if "server.py" in line]


async def test_arguments_that_do_not_fit_the_schema_never_reach_the_server(
    make_runner: Make, workspace: Path
) -> None:
    server = Server(mcpServers=[plain()])
    runner = make_runner(server, calls(("plain__add", {"a": "two", "b": 3}), ("plain__add", {"a": 2})))
    await runner.run("exe_1", TRY)
    assert [result.outcome for result in results(server)] == [ToolOutcome.INVALID] * 2
    assert of_kind(server, ToolStarted) == []
    assert journal(workspace) == ["started"]


async def test_a_result_has_texts_pictures_links_values_and_what_nobody_knows(
    make_runner: Make, workspace: Path
) -> None:
    server = Server(mcpServers=[plain()])
    await make_runner(server, calls(("plain__parts", {}))).run("exe_1", TRY)
    [result] = results(server)
    assert [content.kind for content in result.content] == ["text", "file", "text", "text", "text"]
    assert result.text.split("\n")[2:] == [
        "[link to a.txt: file:///a.txt]",
        '{"type": "hologram", "beam": 7}',
        '{"answer": 42}',
    ]


async def test_a_call_that_may_have_changed_something_is_not_made_again_when_its_server_dies(
    make_runner: Make, workspace: Path
) -> None:
    server = Server(mcpServers=[plain()])
    runner = make_runner(server, calls(("plain__die", {}), ("plain__add", {"a": 1, "b": 1})))
    await runner.run("exe_1", TRY)
    died, added = results(server)
    assert died.outcome is ToolOutcome.UNKNOWN
    assert died.text.startswith("Outcome unknown: it ended with exit code 3")
    assert added.text == (
        "[the server 'plain' had ended and was started again: what it held in memory is gone]\n2"
    )
    assert journal(workspace) == ["started", "die", "started", "add"]


async def test_a_call_that_only_reads_is_made_again_when_its_server_dies(
    make_runner: Make, workspace: Path
) -> None:
    server = Server(mcpServers=[plain(readOnly=["die_once"])])
    await make_runner(server, calls(("plain__die_once", {}))).run("exe_1", TRY)
    [result] = results(server)
    assert result.text.endswith("alive")
    assert journal(workspace) == ["started", "die_once", "started", "die_once"]


async def test_a_call_without_an_answer_in_time_has_an_unknown_outcome(
    make_runner: Make, workspace: Path
) -> None:
    server = Server(mcpServers=[plain()], limits={"toolTimeout": "1s"})
    await make_runner(server, calls(("plain__hang", {}))).run("exe_1", TRY)
    [result] = results(server)
    assert result.outcome is ToolOutcome.UNKNOWN
    assert isinstance(server.events[-1], ExecutionCompleted)


async def test_a_later_leg_knows_the_tools_and_starts_no_server(make_runner: Make, workspace: Path) -> None:
    server = Server(mcpServers=[plain()])
    await make_runner(server, calls(("plain__add", {"a": 1, "b": 1}))).run("exe_1", TRY)
    del server.log[-2:]  # as if the runner had died before it wrote down how the leg ended
    (workspace / "plain.journal").unlink()
    again = make_runner(server, calls(("plain__add", {"a": 1, "b": 1})))
    await again.run("exe_1", ActivityAttempt("try-2", b"next"))
    assert isinstance(server.events[-1], ExecutionCompleted)
    assert journal(workspace) == []


class GoingOn(Server):
    """Grants legs behind the newest stored piece of history."""

    async def start_leg(self, execution_id: str, request: StartLeg) -> LegGrant:
        grant = await super().start_leg(execution_id, request)
        pieces = [(at, each) for at, each in enumerate(self.events) if isinstance(each, HistoryStored)]
        if not pieces:
            return grant
        at, newest = pieces[-1]
        known = Resumption(turn=newest.turn, usage=newest.usage, counters=newest.counters)
        return grant.model_copy(
            update={
                "history": [piece.messages for _, piece in pieces],
                "resumption": known,
                "events": self.log[at + 1 :],
            }
        )


async def test_a_leg_that_goes_on_behind_stored_history_knows_the_tools_and_starts_no_server(
    make_runner: Make, workspace: Path
) -> None:
    server = GoingOn(mcpServers=[plain(readOnly=["add"])])
    answer = calls(*[("plain__add", {"a": 1, "b": 1})] * 22)
    await make_runner(server, answer).run("exe_1", TRY)
    begun = [at for at, event in enumerate(server.events) if isinstance(event, ToolFinished)]
    del server.log[begun[-1] + 1 :]  # as if the runner had died before the last answer
    stored = [event for event in server.events if isinstance(event, HistoryStored)]
    assert [piece.turn for piece in stored] == [20]
    (workspace / "plain.journal").unlink()

    await make_runner(server, answer).run("exe_1", ActivityAttempt("try-2", b"next"))

    assert [result.text for result in results(server)] == ["2"] * 22
    assert journal(workspace) == []


async def test_a_secret_of_a_server_is_in_no_event_and_no_line_of_the_log(
    make_runner: Make, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret, env = "canary-of-one-server-4711", {"TOKEN": {"secret": "SHOP_TOKEN"}}
    secrets = {"SHOP_TOKEN": SecretStr(secret)}
    tell = "import os, sys; said = os.environ['TOKEN']; print(said, file=sys.stderr, flush=True)"
    die = f"{tell}; os._exit(3)"
    caplog.set_level(logging.DEBUG, "agent_runner")  # even without what masks its lines
    told = Server(mcpServers=[plain(env=env)])
    told.secrets = secrets
    answer = calls(
        ("plain__run", {"script": tell}), ("plain__run", {"script": f"{tell}; raise"}), ("plain__add", {})
    )
    await make_runner(told, answer).run("exe_1", TRY)
    (workspace / "server.py").write_text(die, encoding="utf-8")
    failed = Server(mcpServers=[plain(env=env)])
    failed.secrets = secrets
    await make_runner(failed, calls()).run("exe_1", TRY)

    said, died, _ = results(told)
    assert said.text == "[secret SHOP_TOKEN]"
    assert died.outcome is ToolOutcome.UNKNOWN
    [ended] = of_kind(failed, ExecutionFailed)
    assert isinstance(ended, ExecutionFailed)
    assert ended.message.endswith("exit code 3: [secret SHOP_TOKEN]")
    written = [EVENT_ADAPTER.dump_json(event).decode() for event in [*told.events, *failed.events]]
    assert not [event for event in written if secret in event]
    assert secret not in caplog.text


async def test_a_server_that_never_says_what_it_offers_does_not_hold_the_leg(
    make_runner: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LIST_SECONDS", 0.5)
    program = (workspace / "server.py").read_text(encoding="utf-8")
    silent = program.replace('method == "tools/list"', 'method == "tools/list" and time.sleep(3600)')
    (workspace / "server.py").write_text(silent, encoding="utf-8")
    server = Server(mcpServers=[plain()])
    await make_runner(server, calls()).run("exe_1", TRY)
    failed = server.events[-1]
    assert isinstance(failed, ExecutionFailed)
    assert failed.message == (
        "could not list the tools of MCP server 'plain': it did not answer within 0.5 s"
    )
    assert not [line for line in own_processes() if "server.py" in line]


async def test_a_call_that_cannot_be_made_again_after_it_was_lost_has_an_unknown_outcome(
    make_runner: Make, workspace: Path
) -> None:
    server = Server(mcpServers=[plain(idempotent=["run"])])
    die = "import os, pathlib; pathlib.Path('server.py').write_text('raise SystemExit(4)'); os._exit(3)"
    await make_runner(server, calls(("plain__run", {"script": die}))).run("exe_1", TRY)
    [result] = results(server)
    assert result.outcome is ToolOutcome.UNKNOWN
    assert result.text.startswith(
        "Outcome unknown: the connection was lost, and then: could not start MCP server 'plain': "
        "it ended with exit code 4"
    )


@pytest.mark.parametrize("reads_only", [False, True])
async def test_what_became_of_a_call_that_is_stopped_from_outside_is_unknown(
    reads_only: bool, launcher: CommandLauncher, workspace: Path
) -> None:
    sent = asyncio.Event()

    class Silent(McpServers):
        async def call(self, *given: Any, **options: Any) -> Any:
            sent.set()
            await asyncio.Event().wait()

    listed = ToolList(server="plain", tools=[ListedTool(name="hang", input_schema={"type": "object"})])
    described = McpServer.model_validate(
        {"name": "plain", "command": ["x"], "readOnly": ["hang"] if reads_only else []}
    )
    servers = Silent([], {}, SessionWorkspace(workspace, launcher=launcher), 60.0, refuse_none)
    call = cast(
        "Callable[[], Coroutine[Any, Any, Any]]",
        McpToolset(described, listed, servers).tools["plain__hang"].function,
    )
    in_hand = CallInHand(lambda _: None)
    call_in_hand.set(in_hand)
    calling = asyncio.create_task(call())
    async with asyncio.timeout(60):
        await sent.wait()

    calling.cancel()
    await asyncio.wait({calling})

    assert calling.cancelled()
    assert in_hand.is_outcome_unknown is not reads_only


async def test_a_server_that_cannot_be_started_says_so_in_one_line(
    make_runner: Make, workspace: Path
) -> None:
    server = Server(mcpServers=[{"name": "absent", "command": ["no-such-program", "--flag"]}])
    await make_runner(server, calls()).run("exe_1", TRY)
    failed = server.events[-1]
    assert isinstance(failed, ExecutionFailed)
    assert failed.code == "mcp_server_unavailable"
    assert failed.message == ("could not start MCP server 'absent': no-such-program: command not found")


async def test_only_the_tools_that_the_manifest_names_are_there(make_runner: Make, workspace: Path) -> None:
    server = Server(mcpServers=[plain(tools=["add"])])
    await make_runner(server, calls(("plain__pid", {}))).run("exe_1", TRY)
    [result] = results(server)
    assert result.outcome is ToolOutcome.INVALID
    assert json.dumps(result.text).find("plain__add") > 0


async def test_a_rule_names_a_tool_by_its_server_and_its_own_name(make_runner: Make, workspace: Path) -> None:
    server = Server(mcpServers=[plain()], approval=[{"tool": "plain/add", "policy": "deny"}])
    await make_runner(server, calls(("plain__add", {"a": 1, "b": 1}), ("plain__pid", {}))).run("exe_1", TRY)
    assert [result.outcome for result in results(server)] == [ToolOutcome.DENIED, ToolOutcome.SUCCEEDED]
    assert journal(workspace) == ["started"]
