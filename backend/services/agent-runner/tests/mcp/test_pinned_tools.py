"""Tools stay what they were when they were pinned; a server starts when one is called, and is compared."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from agent_runner.legs import ActivityAttempt, LegRunner
from leg_server import Answer, Server
from mcp_legs import calls, plain, results
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.events import StepFinished, ToolsChanged
from stigmer_contract.tool_lists import ToolList

TRY = ActivityAttempt("try-1", b"token")
Make = Callable[[Server, Answer], LegRunner]
ADD = ("plain__add", {"a": 1, "b": 1})
HELD = {"env": {"TOKEN": {"secret": "SHOP_TOKEN"}}}
SECRETS = {"SHOP_TOKEN": SecretStr("a-secret-of-the-shop")}
REDEFINE = "import __main__; __main__.SCHEMAS['add']['description'] = 'now with a fee'"


async def pinned(make_runner: Make, workspace: Path, **fields: Any) -> Server:
    """The server of an execution whose agent's MCP server is pinned, and has changed a tool since."""
    first = Server(mcpServers=[plain(**fields)])
    first.secrets = SECRETS if fields else {}
    await make_runner(first, calls()).run("exe_1", TRY)
    program = (workspace / "server.py").read_text(encoding="utf-8")
    changed = program.replace("def main() -> None:", f"def main() -> None:\n    {REDEFINE}")
    (workspace / "server.py").write_text(changed, encoding="utf-8")
    (workspace / "plain.journal").unlink()
    server = Server(mcpServers=[plain(**fields)])
    server.pins, server.secrets = first.pins, first.secrets
    return server


def told_changes(server: Server) -> list[ToolsChanged]:
    return [event for event in server.events if isinstance(event, ToolsChanged)]


def starts(workspace: Path) -> int:
    file = workspace / "plain.journal"
    return file.read_text(encoding="utf-8").splitlines().count("started") if file.exists() else 0


async def test_the_first_run_has_the_tools_pinned(make_runner: Make, workspace: Path) -> None:
    server = Server(mcpServers=[plain()])
    await make_runner(server, calls(ADD)).run("exe_1", TRY)
    [reported] = server.reported
    assert "add" in [tool.name for tool in reported.tools]
    assert starts(workspace) == 1


async def test_no_server_starts_before_a_pinned_tool_of_it_is_called(
    make_runner: Make, workspace: Path
) -> None:
    server = await pinned(make_runner, workspace)
    await make_runner(server, calls()).run("exe_1", TRY)
    assert results(server) == []
    assert starts(workspace) == 0
    [listed] = [event for event in server.events if isinstance(event, StepFinished) and event.kind != "note"]
    assert (listed.key, listed.digest) == ("mcp/plain", server.pins["plain"].digest)


async def test_a_changed_tool_is_refused_where_the_server_is_held_to_its_pin(
    make_runner: Make, workspace: Path
) -> None:
    server = await pinned(make_runner, workspace, **HELD)
    await make_runner(server, calls(ADD, ("plain__pid", {}), ADD)).run("exe_1", TRY)
    refused, other, again = results(server)
    assert [each.outcome for each in (refused, other, again)] == [
        ToolOutcome.FAILED,
        ToolOutcome.SUCCEEDED,
        ToolOutcome.FAILED,
    ]
    assert refused.text.startswith("Not called: the MCP server 'plain' describes 'add' otherwise than when")
    [told] = told_changes(server)
    assert (told.server, told.changed, told.added, told.removed, told.refused) == (
        *("plain", ["add"], [], []),
        True,
    )
    assert [each.digest for each in server.reported] == [told.digest]


async def test_a_changed_tool_is_called_and_told_of_where_the_server_is_not_held_to_its_pin(
    make_runner: Make, workspace: Path
) -> None:
    server = await pinned(make_runner, workspace)
    await make_runner(server, calls(ADD)).run("exe_1", TRY)
    [result] = results(server)
    assert result.text == "2"
    [told] = told_changes(server)
    assert (told.changed, told.refused) == (["add"], False)


async def test_a_tool_that_changes_while_its_server_runs_is_found(make_runner: Make, workspace: Path) -> None:
    server = Server(mcpServers=[plain(pin=True)])
    tell = "__main__.send({'method': 'notifications/tools/list_changed'})"
    change = ("plain__run", {"script": f"{REDEFINE}; {tell}"})
    await make_runner(server, calls(ADD, change, ADD)).run("exe_1", TRY)
    first, _, refused = results(server)
    assert (first.text, refused.outcome) == ("2", ToolOutcome.FAILED)
    [told] = told_changes(server)
    assert told.changed == ["add"]
    assert starts(workspace) == 1


async def test_a_change_is_written_down_once_however_often_the_server_starts(
    make_runner: Make, workspace: Path
) -> None:
    server = await pinned(make_runner, workspace)
    await make_runner(server, calls(ADD, ("plain__die", {}), ADD)).run("exe_1", TRY)
    assert starts(workspace) == 2
    assert len(told_changes(server)) == 1


async def test_what_a_server_dropped_and_added_is_told(make_runner: Make, workspace: Path) -> None:
    server = await pinned(make_runner, workspace)
    before = server.pins["plain"]
    others = [tool for tool in before.tools if tool.name not in ("add", "hang")]
    gone = before.tools[0].model_copy(update={"name": "gone"})
    server.pins["plain"] = ToolList(server="plain", tools=[*others, gone])
    await make_runner(server, calls(("plain__pid", {}))).run("exe_1", TRY)
    [told] = told_changes(server)
    assert (told.added, told.removed, told.changed) == (["add", "hang"], ["gone"], [])
