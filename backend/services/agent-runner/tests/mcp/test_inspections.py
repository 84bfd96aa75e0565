"""Executions that ask no model: what an agent's tools are, and a call that a person makes by hand."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse

from agent_runner.legs import ActivityAttempt, LegRunner
from leg_server import SESSION, Server, leg_runner
from mcp_legs import STAND_INS, inline, own_processes, plain
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.events import ExecutionCompleted, ExecutionFailed, ToolFinished, ToolStarted
from stigmer_contract.inspections import CalledTool, Inspection, InspectionReport, ShownTool
from stigmer_isolation.launcher import CommandLauncher

TRY = ActivityAttempt("try-1", b"token")
Make = Callable[[Server], LegRunner]


def no_model(messages: list[ModelMessage]) -> ModelResponse:
    raise AssertionError("a model was asked")


@pytest.fixture
async def make_runner(tmp_path: Path) -> AsyncGenerator[Make]:
    directory = tmp_path / SESSION
    directory.mkdir(mode=0o700)
    (directory / "server.py").write_bytes((STAND_INS / "plain_server.py").read_bytes())
    async with CommandLauncher() as launcher:
        yield lambda server: leg_runner(server, no_model, launcher, tmp_path)


async def inspect(make_runner: Make, inspection: Inspection, **spec: Any) -> tuple[InspectionReport, Server]:
    server = Server(**spec)
    server.inspection = inspection
    await make_runner(server).run("exe_1", TRY)
    ended = server.events[-1]
    assert isinstance(ended, ExecutionCompleted), ended
    assert not [line for line in own_processes() if "server.py" in line]
    return InspectionReport.model_validate(inline(ended.output)), server


async def test_all_tools_are_shown_with_what_is_held_of_them(make_runner: Make) -> None:
    report, server = await inspect(
        make_runner,
        Inspection(),
        tools=["shell", "files"],
        mcpServers=[plain(tools=["add", "die", "pid"], readOnly=["pid"], idempotent=["add"])],
        approval=[
            {"tool": "shell", "when": "git push*", "policy": "ask"},
            {"tool": "plain/die", "policy": "deny"},
            {"tool": "shell", "policy": "allow"},
        ],
    )
    [listed] = report.servers
    assert (listed.server, listed.error, listed.protocol) == ("plain", None, "2025-11-25")
    assert listed.tools > 3
    tools = {f"{tool.toolset}/{tool.tool}": tool for tool in report.tools}

    def held(name: str) -> tuple[bool, bool, list[str]]:
        tool: ShownTool = tools[name]
        return tool.side_effects, tool.may_repeat, tool.approval

    assert held("shell/run_command") == (True, False, ["ask when git push*", "allow"])
    assert held("files/read_file") == (False, True, [])
    assert [held(f"plain/{name}") for name in ("add", "die", "pid")] == [
        (True, True, []),
        (True, False, ["deny"]),
        (False, True, []),
    ]
    assert tools["plain/add"].shown_as == "plain__add"
    assert all(tool.tokens > 10 for tool in report.tools)
    assert [each.server for each in server.reported] == ["plain"]


async def test_a_server_that_cannot_be_asked_says_why_and_hides_no_other(make_runner: Make) -> None:
    absent = {"name": "absent", "command": ["no-such-program"]}
    report, _ = await inspect(
        make_runner, Inspection(servers=["absent", "plain"]), mcpServers=[absent, plain(), plain("other")]
    )
    assert [(each.server, each.error) for each in report.servers] == [
        ("absent", "could not start MCP server 'absent': no-such-program: command not found"),
        ("plain", None),
    ]
    assert {tool.toolset for tool in report.tools} == {"plain"}


@pytest.mark.parametrize(
    ("tool", "arguments", "outcome", "text"),
    [
        ("add", {"a": 2, "b": 3}, ToolOutcome.SUCCEEDED, "5"),
        ("add", {"a": "x", "b": 3}, ToolOutcome.INVALID, "'x' is not of type 'integer'"),
        ("read", {"path": "absent.txt"}, ToolOutcome.FAILED, "FileNotFoundError"),
        ("die", {}, ToolOutcome.UNKNOWN, "Outcome unknown"),
    ],
)
async def test_a_tool_is_called_by_hand_and_the_log_tells_of_it(
    make_runner: Make, tool: str, arguments: dict[str, Any], outcome: ToolOutcome, text: str
) -> None:
    called = CalledTool(server="plain", tool=tool, arguments=arguments)
    report, server = await inspect(make_runner, Inspection(call=called), mcpServers=[plain()])
    assert report.result is not None
    assert report.result.outcome is outcome
    assert text in report.result.text
    begun = [event for event in server.events if isinstance(event, ToolStarted)]
    assert len(begun) == (outcome is not ToolOutcome.INVALID)
    [finished] = [event for event in server.events if isinstance(event, ToolFinished)]
    assert (finished.toolset, finished.outcome) == ("plain", outcome)


@pytest.mark.parametrize(
    ("called", "message"),
    [
        (CalledTool(server="plain", tool="sub"), "the MCP server 'plain' has no tool 'sub' for this agent"),
        (CalledTool(server="plain", tool="die"), "the MCP server 'plain' has no tool 'die' for this agent"),
        (CalledTool(server="other", tool="add"), "the agent has no MCP server 'other'"),
    ],
)
async def test_a_tool_that_the_agent_does_not_have_is_not_called(
    make_runner: Make, called: CalledTool, message: str
) -> None:
    server = Server(mcpServers=[plain(exclude=["die"])])
    server.inspection = Inspection(call=called)
    await make_runner(server).run("exe_1", TRY)
    failed = server.events[-1]
    assert isinstance(failed, ExecutionFailed)
    assert (failed.code, failed.message) == ("tool_missing", message)
