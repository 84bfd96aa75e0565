"""An agent's MCP servers over stdio: started when called, held in, ended, and truthful about what became."""

import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from agent_runner.legs import ActivityAttempt, LegRunner
from leg_server import SESSION, Answer, Server, leg_runner
from mcp_legs import STAND_INS, calls, inline, own_processes, plain, results
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.events import (
    Event,
    ExecutionCompleted,
    ExecutionFailed,
    StepFinished,
    ToolStarted,
)
from stigmer_contract.temporal import LegOutcome, LegResult
from stigmer_isolation.launcher import CommandLauncher

ENDED = LegResult(outcome=LegOutcome.ENDED)
TRY = ActivityAttempt("try-1", b"token")
Make = Callable[[Server, Answer], LegRunner]


@pytest.fixture
async def launcher() -> AsyncGenerator[CommandLauncher]:
    async with CommandLauncher() as launcher:
        yield launcher


@pytest.fixture
def make_runner(tmp_path: Path, launcher: CommandLauncher) -> Make:
    return lambda server, answer: leg_runner(server, answer, launcher, tmp_path)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The session's, with the server's program in it."""
    directory = tmp_path / SESSION
    directory.mkdir(mode=0o700)
    (directory / "server.py").write_bytes((STAND_INS / "plain_server.py").read_bytes())
    return directory


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
