"""Servers that do what they should not: passed over, mapped, bounded or told; the agent goes on."""

import shutil
import sys
from pathlib import Path

from pydantic import JsonValue

from agent_runner.legs import ActivityAttempt
from agent_runner.mcp_servers.argument_check import find_problems
from agent_runner.mcp_servers.contents import parts_of
from agent_runner.mcp_servers.shown_schemas import shown_schema
from agent_runner.mcp_servers.tool_list import read_tools
from agent_runner.mcp_servers.tool_names import MAX_NAME_CHARACTERS, model_name
from leg_server import SESSION, Server, leg_runner
from mcp_legs import STAND_INS, calls, inline, own_processes, results
from stigmer_contract.events import StepFinished
from stigmer_isolation.launcher import CommandLauncher

TRY = ActivityAttempt("try-1", b"token")
ODD_NAME = "a name/with: everything ü"


async def test_an_agent_works_with_a_server_that_does_everything_wrong(
    tmp_path: Path, launcher: CommandLauncher
) -> None:
    workspace = tmp_path / SESSION
    workspace.mkdir(mode=0o700)
    shutil.copy(STAND_INS / "odd_server.py", workspace / "server.py")
    server = Server(mcpServers=[{"name": "odd", "command": [sys.executable, "server.py"]}])
    odd_argument = next(iter(shown_schema({"properties": {"odd name!": {}}}).renamed))
    answer = calls(
        ("odd__good", {}),
        ("odd__untyped", {"anything": 1}),
        (model_name("odd", ODD_NAME), {}),
        (model_name("odd", "x" * 120), {}),
        ("odd__references", {odd_argument: "z", "far": [1], "node": {"next": {}}}),
        ("odd__slow_pattern", {"text": "a" * 5000 + "b"}),
    )
    await leg_runner(server, answer, launcher, tmp_path).run("exe_1", TRY)
    told = results(server)
    assert [result.text[:40] for result in told[:4]] == ["{}", '{"anything": 1}', "{}", "{}"]
    assert told[4].text == '{"odd name!": "z", "far": [1], "node": {"next": {}}}'
    assert told[5].outcome == "invalid"
    [listed] = [e for e in server.events if isinstance(e, StepFinished) and e.kind == "tools.listed"]
    assert inline(listed.result)["left_out"] == {"good": "the server lists it twice"}
    assert not [line for line in own_processes() if "server.py" in line or "odd-child" in line]


def test_what_a_call_gives_is_bounded() -> None:
    texts: list[JsonValue] = [{"type": "text", "text": "y" * 60_000}, {"type": "text", "text": "z"}]
    picture: JsonValue = {"type": "image", "mimeType": "image/png", "data": "A" * (8 << 20)}
    [left_out] = parts_of({"content": [picture]})
    long, rest = parts_of({"content": texts})
    assert str(long).endswith("y\n[10000 further characters are left out]")
    assert rest == "\n[1 further characters are left out]"
    assert left_out == "[image/png, left out: 6291456 bytes are too many]"
    assert parts_of({"content": [], "structuredContent": {"a": 1}}) == ['{"a": 1}']
    same: list[JsonValue] = [{"type": "text", "text": '{"a":1}'}]
    assert parts_of({"content": same, "structuredContent": {"a": 1}}) == ['{"a":1}']


def test_names_for_models_fit_every_provider_and_are_never_those_of_another_tool() -> None:
    tools = ["add", "a b", "a_b", "a/b", "ä", "x" * 90, "x" * 91, "9", "", "a__b", "_a", "a.b"]
    pairs = [(server, tool) for server in ("one", "one-two", "3d") for tool in tools]
    # What looks like a name that was made fit is made fit itself.
    pairs += [("one", model_name("one", "a b").removeprefix("one__"))]
    names = [model_name(*pair) for pair in pairs]
    assert len(set(names)) == len(names)
    assert all(len(name) <= MAX_NAME_CHARACTERS and name[0].isalpha() and name.isascii() for name in names)
    assert all(name.replace("_", "").replace("-", "").isalnum() for name in names)
    assert model_name("one", "add") == "one__add"


def test_a_hostile_schema_costs_little_and_asks_nobody() -> None:
    bomb: dict[str, JsonValue] = {"d40": {}}
    for n in range(40):
        bomb[f"d{n}"] = {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]}
    assert find_problems({"$defs": bomb, "$ref": "#/$defs/d0"}, {"a": 1}) == []
    assert find_problems({"$ref": "#"}, {"a": 1}) == []
    assert find_problems({"$ref": "https://example.invalid/x"}, {"a": 1}) == []
    # A pattern that cannot be tried says nothing, of a text, of a name, and of what it leaves over.
    untried: dict[str, JsonValue] = {"patternProperties": {"(?=a)": False}, "additionalProperties": False}
    assert find_problems({**untried, "properties": {"b": {"pattern": "(?=a)"}}}, {"a": 1, "b": "x"}) == []
    assert find_problems({"patternProperties": {"^(a+)+$": {"type": "string"}}}, {"a" * 5000 + "b": 1}) == []
    assert find_problems({"properties": {"a": {"type": "string"}}}, {"a": 1}) == [
        "a: 1 is not of type 'string'"
    ]
    assert find_problems({"type": 7}, {"a": 1}) == []


def test_a_schema_that_is_too_large_or_too_deep_leaves_its_tool_out() -> None:
    deep: dict[str, object] = {}
    for _ in range(100):
        deep = {"properties": {"a": deep}}
    listed = read_tools(
        "odd",
        [
            {"name": "deep", "inputSchema": deep},  # type: ignore[dict-item]
            {"name": "large", "inputSchema": {"description": "x" * 70_000}},
            {"name": "fine", "inputSchema": {}},
        ],
        "2025-11-25",
    )
    assert [tool.name for tool in listed.tools] == ["fine"]
    assert list(listed.left_out) == ["deep", "large"]


def test_what_a_model_is_shown_is_an_object_without_outside_references() -> None:
    shown = shown_schema({"oneOf": [{"properties": {"a": {"$ref": "https://x.invalid"}}}], "$schema": "x"})
    assert shown.schema == {"type": "object", "properties": {"a": {}}}
    assert shown_schema({}).schema == {"type": "object", "properties": {}}
