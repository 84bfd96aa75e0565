"""Resources of MCP servers: found and read by tools of ours, in both forms of the protocol."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from pydantic import JsonValue

from agent_runner.legs import ActivityAttempt, LegRunner
from agent_runner.mcp_servers.resources import with_resources
from agent_runner.mcp_servers.tool_list import read_tools, side_effects_of
from leg_server import Answer, Server
from mcp_legs import STAND_INS, calls, inline, results
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.events import StepFinished, ToolStarted
from stigmer_contract.manifest_mcp import McpServer
from stigmer_contract.tool_lists import MAX_TOOLS, ListedTool, ToolList

TRY = ActivityAttempt("try-1", b"token")
Make = Callable[[Server, Answer], LegRunner]
READ = "notes__read_resource"


def notes(*arguments: str, **fields: Any) -> dict[str, Any]:
    return {"name": "notes", "command": [sys.executable, "notes.py", "notes.journal", *arguments], **fields}


@pytest.fixture
def folder(workspace: Path) -> Path:
    (workspace / "notes.py").write_bytes((STAND_INS / "resource_server.py").read_bytes())
    return workspace


@pytest.mark.parametrize("form", [(), ("modern",)])
async def test_resources_are_listed_and_read_as_what_changes_nothing(
    make_runner: Make, folder: Path, form: tuple[str, ...]
) -> None:
    server = Server(mcpServers=[notes(*form)])
    addresses = [f"notes://{name}" for name in ("two", "picture", "3")]
    asked: list[tuple[str, dict[str, object]]] = [(READ, {"uri": address}) for address in addresses]
    asked.insert(0, ("notes__list_resources", {}))
    await make_runner(server, calls(*asked)).run("exe_1", TRY)
    [listed, two, picture, missing] = results(server)
    template = [] if form else ["template notes://{name} by name"]
    assert listed.text.splitlines() == [
        "notes://one one: The first.",
        "notes://two notes://two",
        "notes://picture p (image/png)",
        *template,
    ]
    assert two.text == "[notes://two]\nsecond"
    assert [part.kind for part in picture.content] == ["file"]
    assert (missing.outcome, missing.text) == (ToolOutcome.FAILED, "no such thing")
    started = [event for event in server.events if isinstance(event, ToolStarted)]
    assert [event.side_effects for event in started] == [False] * len(asked)
    assert (folder / "notes.journal").read_text(encoding="utf-8").split() == addresses
    [step] = [
        each for each in server.events if isinstance(each, StepFinished) and each.kind == "tools.listed"
    ]
    assert [tool["name"] for tool in inline(step.result)["tools"]] == ["list_resources", "read_resource"]


async def test_a_server_s_own_tool_of_that_name_is_no_tool_of_ours_and_the_manifest_may_leave_ours_out(
    make_runner: Make, folder: Path
) -> None:
    claim: dict[str, JsonValue] = {
        "name": "read_resource",
        "inputSchema": {"type": "object"},
        "is_ours": True,
        "isOurs": True,
    }
    [tool] = read_tools("s", [claim], "").tools
    assert not tool.is_ours
    assert not side_effects_of(McpServer(name="s", command=["x"]), tool).reads_only
    assert "is_ours" not in ListedTool(name="t", input_schema={}).model_dump()
    server = Server(mcpServers=[notes(exclude=["read_resource"])])
    await make_runner(server, calls((READ, {"uri": "notes://one"}))).run("exe_1", TRY)
    assert [result.outcome for result in results(server)] != [ToolOutcome.SUCCEEDED]
    assert not (folder / "notes.journal").exists()


def test_a_list_that_is_full_stays_one_that_can_be_read_again() -> None:
    own = [ListedTool(name=f"tool_{number}", input_schema={}) for number in range(MAX_TOOLS - 1)]
    capabilities = types.ServerCapabilities(resources=types.ResourcesCapability())
    listed = with_resources(ToolList(server="s", tools=own), capabilities)
    assert ToolList.model_validate(listed.model_dump(mode="json")) == listed
    assert sorted({tool.name for tool in listed.tools} - {tool.name for tool in own}) == ["list_resources"]
