"""Scripts of a manifest as tools: their arguments, files, variables, network; what they cannot reach."""

import hashlib
import json
import sys
import textwrap
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent_runner.toolsets import DESCRIBED
from agent_runner.toolsets.argument_schemas import problems_with
from agent_runner.toolsets.ask_user import ASK_TOOL
from agent_runner.toolsets.command_variables import ToolVariables
from agent_runner.toolsets.files import files_toolset
from agent_runner.toolsets.shell import COMMAND_TOOL
from agent_runner.toolsets.skills import SKILL_TOOLS
from agent_runner.toolsets.wait import WAIT_TOOL
from agent_runner.toolsets.web import WEB_TOOLS
from agent_runner.workspace import PackFolders, SessionWorkspace
from attack_list import ATTACKS, PRELUDE, STAYS_OPEN
from bubblewrap import working_bubblewrap
from command_attacks import scene
from stigmer_contract.errors import PackError
from stigmer_contract.json_schemas import check_arguments_schema
from stigmer_contract.manifest import AgentSpec
from stigmer_contract.manifest_scripts import BUILT_IN_TOOLS, SEARCH_TOOL
from stigmer_contract.packs import PackedFile, read_pack, write_pack
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.zygote.landlock import SCOPE_ABI, abi_version
from tool_calls import Result, call_tools, spec_of

TEXT: Mapping[str, object] = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
}


@pytest.fixture
async def workspace(tmp_path: Path) -> AsyncGenerator[SessionWorkspace]:
    directory = tmp_path / "session"
    directory.mkdir()
    async with CommandLauncher() as launcher:
        yield SessionWorkspace(directory, launcher=launcher)


def spec_with(*scripts: Mapping[str, object]) -> AgentSpec:
    return spec_of(scripts=[{"description": "A script.", **script} for script in scripts])


def packs_of(root: Path, *packs: bytes) -> PackFolders:
    kept = {hashlib.sha256(pack).hexdigest(): pack for pack in packs}

    async def load(sha256: str) -> bytes:
        return kept[sha256]

    return PackFolders(root, load)


def reference(pack: bytes) -> str:
    return f"sha256:{hashlib.sha256(pack).hexdigest()}"


async def test_a_script_reads_its_arguments_as_json_and_its_output_is_the_result(
    workspace: SessionWorkspace,
) -> None:
    spec = spec_with(
        {"name": "echo", "command": ["cat"], "parameters": TEXT},
        {"name": "fail", "command": ["sh", "-c", "echo out; echo err >&2; exit 3"]},
        {"name": "silent", "command": ["true"]},
        {"name": "missing", "command": ["no-such-program"]},
    )
    long = "ä\n\"'\\ " * 40_000

    results = await call_tools(
        workspace,
        ("echo", {"text": long[:1000]}),
        ("fail", {}),
        ("silent", {}),
        ("missing", {}),
        ("echo", {"text": long}),
        spec=spec,
    )

    assert json.loads(results[0].content) == {"text": long[:1000]}
    assert results[1] == Result("failed", "[stdout]\nout\n\n[stderr]\nerr\n\n[exit code: 3]")
    assert results[2] == Result("success", "(no output)")
    assert results[3].outcome == "failed" and results[3].content.endswith("[exit code: 127]")
    assert "characters cut" in results[4].content and len(results[4].content) <= 50_000


async def test_arguments_that_do_not_fit_start_nothing(workspace: SessionWorkspace) -> None:
    spec = spec_with(
        {"name": "mark", "command": ["sh", "-c", 'echo x >> "$WORKSPACE/mark"'], "parameters": TEXT}
    )

    results = await call_tools(
        workspace, ("mark", {"text": 5}), ("mark", {}), ("mark", {"text": "a"}), spec=spec
    )

    assert [result.outcome for result in results] == ["retried", "retried", "success"]
    assert "text: 5 is not of type 'string'" in results[0].content
    assert "'text' is a required property" in results[1].content
    assert (workspace.directory / "mark").read_text(encoding="utf-8") == "x\n"


async def test_a_script_may_have_any_names_of_arguments(workspace: SessionWorkspace) -> None:
    names = ["self", "ctx", "arguments", "args", "kwargs", "class", "a-b", "name"]
    parameters = {"type": "object", "properties": {name: {"type": "integer"} for name in names}}
    spec = spec_with({"name": "echo", "command": ["cat"], "parameters": parameters})

    [result] = await call_tools(workspace, ("echo", dict.fromkeys(names, 1)), spec=spec)

    assert json.loads(result.content) == dict.fromkeys(names, 1)


async def test_variables_are_the_script_s_own_and_it_starts_where_no_command_writes(
    workspace: SessionWorkspace,
) -> None:
    show = 'env | sort; pwd; ls -A; echo "home $HOME"; touch "$WORKSPACE/seen" kept'
    spec = spec_with(
        {"name": "mine", "command": ["sh", "-c", show], "env": {"TOKEN": "t"}},
        {"name": "other", "command": ["sh", "-c", "env; ls -A"]},
    )
    variables = ToolVariables(commands={"SHELLS": "s"}, scripts={"mine": {"TOKEN": "t-o-k-e-n"}})

    mine, other, command = await call_tools(
        workspace, ("mine", {}), ("other", {}), ("run_command", {"command": "env"}),
        spec=spec, variables=variables,
    )  # fmt: skip

    assert "TOKEN=t-o-k-e-n" in mine.content and "SHELLS" not in mine.content
    assert f"WORKSPACE={workspace.directory}" in mine.content
    home = mine.content.rpartition("home ")[2].strip()
    assert not home.startswith(str(workspace.directory))
    assert f"\n{home}\nhome " in mine.content, "it starts in an empty directory of its own"
    assert "t-o-k-e-n" not in other.content + command.content and "kept" not in other.content
    assert "SHELLS=s" in command.content
    assert (workspace.directory / "seen").exists()


async def test_what_a_command_leaves_in_its_home_does_not_run_in_a_script(
    workspace: SessionWorkspace,
) -> None:
    site = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    plant = f"mkdir -p ~/.local/{site} && echo 'import sys; print(\"planted\")' > ~/.local/{site}/x.pth"
    here = "cp ~/.local/lib/*/site-packages/x.pth . ; echo 'print(\"planted\")' > json.py"
    spec = spec_with({"name": "report", "command": [sys.executable, "-c", "import json; print('clean')"]})

    results = await call_tools(
        workspace, ("run_command", {"command": f"{plant}; {here}"}), ("report", {}), spec=spec
    )

    assert results[1] == Result("success", "clean\n")


async def test_packed_files_are_there_and_can_be_changed_by_nobody(
    workspace: SessionWorkspace, tmp_path: Path
) -> None:
    tool = b"import words, json, sys\nprint(words.greet(json.load(sys.stdin)['text']))\n"
    pack = write_pack(
        [
            PackedFile("tool.py", tool, False),
            PackedFile("words.py", b"def greet(name): return f'Hello {name}'\n", False),
            PackedFile("bin/run.sh", b"#!/bin/sh\necho ran $0 | sed 's,/.*/bin,bin,'\n", True),
        ]
    )  # fmt: skip
    spoil = 'cd "$SCRIPT_FILES"; echo x >> words.py; rm -rf bin; touch new; ls'
    spec = spec_with(
        {
            "name": "greet",
            "command": [sys.executable, "tool.py"],
            "parameters": TEXT,
            "pack": reference(pack),
        },
        {"name": "run", "command": ["./bin/run.sh"], "pack": reference(pack)},
        {"name": "spoil", "command": ["sh", "-c", spoil], "pack": reference(pack)},
        {"name": "where", "command": ["sh", "-c", "echo $SCRIPT_FILES"], "pack": reference(pack)},
    )
    packs = packs_of(tmp_path, pack)

    results = await call_tools(
        workspace,
        ("spoil", {}),
        ("where", {}),
        ("greet", {"text": "Ada"}),
        ("run", {}),
        spec=spec,
        packs=packs,
    )
    [where] = [result.content.strip() for result in results[1:2]]
    [look, change] = await call_tools(
        workspace,
        ("run_command", {"command": f"cat {where}/words.py"}),
        ("run_command", {"command": f"echo x >> {where}/words.py || chmod -R a+w {where} || rm -r {where}"}),
    )

    assert results[0].content.split() == ["bin", "tool.py", "words.py"]
    assert [result.content for result in results[2:]] == ["Hello Ada\n", "ran bin/run.sh\n"]
    assert (look.outcome, change.outcome) == ("failed", "failed")
    [kept] = (tmp_path / ".packs").glob("*/content")
    assert where == str(kept) and (kept / "words.py").read_bytes().startswith(b"def greet")


async def test_files_that_cannot_be_had_are_told(workspace: SessionWorkspace, tmp_path: Path) -> None:
    damaged = b"no archive"
    spec = spec_with({"name": "broken", "command": ["cat"], "pack": reference(damaged)})

    [result] = await call_tools(workspace, ("broken", {}), spec=spec, packs=packs_of(tmp_path, damaged))

    assert result.outcome == "failed" and "not a tar archive" in result.content
    assert list((tmp_path / ".packs").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux" or abi_version() < SCOPE_ABI, reason="needs Landlock with scopes")
@pytest.mark.parametrize("way", ["native", "native, in bubblewrap"])
async def test_an_attack_from_inside_a_script_is_refused(way: str, tmp_path: Path) -> None:
    program = "import json, sys; exec(json.load(sys.stdin)['program'])"
    async with CommandLauncher() as launcher:
        if way != "native":
            launcher.bubblewrap = working_bubblewrap()
        async with scene(launcher, tmp_path) as here:
            spec = spec_with(
                {
                    "name": "attack",
                    "command": [sys.executable, "-c", program],
                    "parameters": {"type": "object", "properties": {"program": {"type": "string"}}},
                }
            )
            calls = [
                ("attack", {"program": PRELUDE + textwrap.dedent(attack)}) for attack in ATTACKS.values()
            ]
            variables = ToolVariables(scripts={"attack": dict(here.variables)})

            results = await call_tools(here.attacker, *calls, spec=spec, variables=variables)

            arrived = list(here.arrived_signals)
    outcomes = dict[str, str]()
    for title, result in zip(ATTACKS, results, strict=True):
        assert result.outcome == "success", (title, result.content)
        for line in result.content.splitlines():
            state, _, rest = line.partition(" ")
            outcomes[rest.partition(" |")[0]] = state
    assert len(outcomes) > 60
    # Descriptor 0 is a device of the machine's for a command, and a script's own input.
    own = {
        f"keep_{what} of a device, by {way}"
        for what in ("mode", "times", "owner")
        for way in ("descriptor", "link")
    }
    got_through = {name for name, state in outcomes.items() if state == "OPEN"} - own
    assert (got_through, arrived) == (STAYS_OPEN[way], [])


def test_side_effects_are_what_the_manifest_says() -> None:
    spec = spec_with(
        {"name": "read", "command": ["cat"], "sideEffects": False}, {"name": "write", "command": ["cat"]}
    )

    facts = {
        name: DESCRIBED["scripts"].facts_of(spec, name).side_effects for name in ("read", "write", "other")
    }

    assert facts == {"read": False, "write": True, "other": True}


def test_the_contract_knows_the_names_of_all_built_in_tools() -> None:
    others = {ASK_TOOL, COMMAND_TOOL, SEARCH_TOOL, WAIT_TOOL}
    assert {*files_toolset().tools, *SKILL_TOOLS, *WEB_TOOLS, *others} == BUILT_IN_TOOLS


# --- schemas ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "arguments", "problem"),
    [
        ({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 40 + "!"}, "does not match"),
        ({"patternProperties": {"^(x+)+$": {"type": "null"}}}, {"x" * 40: 1}, "is not of type 'null'"),
        (
            {"patternProperties": {"^(x+)+$": {}}, "additionalProperties": False},
            {"x" * 40 + "!": 1},
            "not an argument",
        ),
        ({"additionalProperties": False, "properties": {"b": {}}}, {"a": 1}, "'a' is not an argument"),
        ({"$ref": "#"}, {}, "take too long"),
        ({"properties": {"a": {"$ref": "#/properties/a"}}}, {"a": 1}, "take too long"),
        ({"properties": {"a": {"$ref": "https://example.com/x"}}}, {"a": 1}, "schema is broken"),
        ({"properties": {"a": {"pattern": "(?=x)"}}}, {"a": "y"}, None),
        ({"unevaluatedProperties": False, "patternProperties": {"(a+)+$": {}}}, {"a" * 40 + "!": 1}, None),
        ({"unevaluatedProperties": False}, {"a": 1}, "not allowed"),
    ],
)  # fmt: skip
def test_a_hostile_schema_neither_hangs_nor_fetches(
    schema: dict[str, Any], arguments: dict[str, Any], problem: str | None
) -> None:
    problems = problems_with(arguments, {"type": "object", **schema})

    assert (problems == []) if problem is None else (problem in problems[0]), problems


def test_a_schema_that_doubles_at_each_level_is_given_up() -> None:
    levels: dict[str, Any] = {f"l{at}": {"allOf": [{"$ref": f"#/$defs/l{at + 1}"}] * 2} for at in range(40)}

    problems = problems_with({}, {"type": "object", "$ref": "#/$defs/l0", "$defs": {**levels, "l40": {}}})

    assert problems == ["they take too long to be checked"]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({}, "must be a JSON Schema of an object"),
        ({"type": "object", "properties": {"a": {"type": "strng"}}}, "properties.a.type: 'strng' is no type"),
        ({"type": "object", "properties": ["a"]}, "properties: must be a mapping of schemas"),
        ({"type": "object", "required": "a"}, "required: must be a list"),
        ({"type": "object", "properties": {"a": {"$ref": "http://x/y"}}}, "leads out of the schema"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}}, "leads to nothing"),
        ({"type": "object", "allOf": [{"minLength": -1}]}, "allOf[0].minLength: must be a whole number"),
        ({"type": "object", "properties": {"a": {"enum": [list(range(6000))]}}}, "more than 5000 parts"),
    ],
)
def test_a_schema_that_is_none_is_told_with_its_place(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        check_arguments_schema(schema)
    assert message in str(raised.value)


# --- packs --------------------------------------------------------------------------------------


def test_the_same_files_are_the_same_pack() -> None:
    files = [PackedFile("b", b"2", True), PackedFile("a/c", b"1", False)]

    assert write_pack(files) == write_pack(reversed(files))
    assert read_pack(write_pack(files)) == sorted(files)


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a/../../x", "a//b", "", ".", "a\\b", "a\nb", "a/" * 20 + "b"]
)
def test_a_path_that_leads_elsewhere_is_in_no_pack(path: str) -> None:
    with pytest.raises(PackError):
        write_pack([PackedFile(path, b"", False)])
