"""MCP servers through a whole stack and the command line: pinned, shown, called, and found changed."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_harness import Command
from e2e_script import QUICK_HEARTBEAT, runner_environment
from mcp_legs import STAND_INS
from mcp_sign_in_server import McpSignInServer, files_with
from model_server import ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from running_stack import RunningStack

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("mcp")]

AGENT = """
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {{name: adder}}
spec:
  instructions: Add.
  tools: [files]
  mcpServers:
    - {{name: plain, command: [{python}, {program}], pin: true}}
"""
REDEFINED = "def main() -> None:\n    SCHEMAS['add']['description'] = 'now with a fee'"
SHOPPER = """
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {{name: shopper}}
spec:
  instructions: Buy.
  mcpServers:
    - {{name: shop, url: "{url}"}}
"""
ALLOWED = {"STIGMER_MCP_ALLOW_HOSTS": "127.0.0.1"}
BROWSER = """#!{python}
import sys, urllib.request
urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(sys.argv[1]).read()
"""
"""Opens the page that it is given, and goes wherever that leads."""
DONE = ScriptedTurn(text="Done.")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    add = ScriptedTurn(calls=[ScriptedCall("plain__add", {"a": 2, "b": 3})])
    buy = ScriptedTurn(calls=[ScriptedCall("shop__add", {"a": 2, "b": 3})])
    with ModelServer(
        ScriptedModel([DONE], conversations={"add": [add, DONE], "shop": [buy, DONE], "idle": [DONE]})
    ) as model:
        home = tmp_path_factory.mktemp("mcp")
        (home / "servers").mkdir()
        environment = runner_environment(model) | {"STIGMER_ISOLATION_READ_PATHS": str(home / "servers")}
        with RunningStack(
            home,
            server_environment=QUICK_HEARTBEAT | ALLOWED,
            runner_environment=environment | ALLOWED,
        ) as running:
            yield running


def test_the_tools_of_a_server_are_pinned_shown_called_and_held_to_what_they_were(
    stack: RunningStack, tmp_path: Path
) -> None:
    program = stack.home / "servers" / "server.py"
    program.write_bytes((STAND_INS / "plain_server.py").read_bytes())
    (tmp_path / "agent.yaml").write_text(
        AGENT.format(python=sys.executable, program=program), encoding="utf-8"
    )
    stigmer = Command(stack.environment, tmp_path)
    applied = stigmer.run("apply", "-f", "agent.yaml", "--json")
    assert applied.exit_code == 0, applied.stderr
    [settled] = json.loads(applied.stdout)[0]["tools"]
    assert (settled["server"], settled["state"]) == ("plain", "pinned")

    tools = json.loads(stigmer.run("tools", "adder", "--json").stdout)["tools"]
    assert {"files/read_file", "plain/add"} <= {f"{each['toolset']}/{each['tool']}" for each in tools}
    assert stigmer.run("mcp", "list").stdout.splitlines()[1].split()[:4] == [
        *("adder", "plain", str(settled["tools"])),
        "pinned",
    ]
    called = stigmer.run("mcp", "call", "adder", "plain/add", '{"a": 40, "b": 2}')
    assert (called.exit_code, called.stdout) == (0, "42\n"), called.stderr
    wrong = stigmer.run("mcp", "call", "adder", "plain/add", '{"a": "x"}')
    assert wrong.exit_code == 1
    assert "has the outcome invalid: " in wrong.stderr

    changed = program.read_text(encoding="utf-8").replace("def main() -> None:", REDEFINED)
    program.write_text(changed, encoding="utf-8")
    ran = stigmer.run("run", "adder", "Go. [conversation add]")
    assert (ran.exit_code, ran.stdout) == (0, "Done.\n"), ran.stderr
    assert "MCP server plain offers other tools than were pinned (changed: add)" in ran.stderr
    refused = stigmer.run("apply", "-f", "agent.yaml")
    assert refused.exit_code == 4, refused.stderr
    assert "now with a fee" in refused.stderr
    accepted = stigmer.run("apply", "-f", "agent.yaml", "--accept-tools")
    assert accepted.exit_code == 0, accepted.stderr
    inspected = stigmer.run("mcp", "inspect", "adder", "plain")
    assert inspected.exit_code == 0, inspected.stderr
    assert "plain/add" in inspected.stdout
    assert stigmer.run("mcp", "list").stdout.splitlines()[1].split()[3] == "pinned"


def test_doctor_tries_the_servers_of_the_agents_that_it_is_given(stack: RunningStack, tmp_path: Path) -> None:
    program = stack.home / "servers" / "tried.py"
    program.write_bytes((STAND_INS / "plain_server.py").read_bytes())
    text = AGENT.format(python=sys.executable, program=program).replace("adder", "tried")
    text += f"    - {{name: gone, command: [{sys.executable}, /nowhere.py]}}\n"
    (tmp_path / "agent.yaml").write_text(text, encoding="utf-8")
    doctor = Command(stack.environment, tmp_path).run("doctor", "./agent.yaml", "nobody", "--json")
    assert doctor.exit_code == 3, doctor.stderr
    found = {each["name"]: each for each in json.loads(doctor.stdout)["findings"] if "MCP" in each["name"]}
    assert [each["outcome"] for each in found.values()] == ["passed", "failed", "failed"]
    assert "tools, protocol 2025-11-25" in found["MCP server plain of ./agent.yaml"]["detail"]
    assert "could not start MCP server 'gone'" in found["MCP server gone of ./agent.yaml"]["detail"]
    assert "nobody" in found["MCP servers of nobody"]["detail"]


def test_a_person_signs_in_at_a_server_its_tools_are_called_and_nothing_shows_the_tokens(
    stack: RunningStack, tmp_path: Path
) -> None:
    browser = tmp_path / "browser"
    browser.write_text(BROWSER.format(python=sys.executable), encoding="utf-8")
    browser.chmod(0o755)
    stigmer = Command(stack.environment | {"BROWSER": str(browser)}, tmp_path)
    with McpSignInServer() as web:
        (tmp_path / "agent.yaml").write_text(SHOPPER.format(url=web.url), encoding="utf-8")
        applied = stigmer.run("apply", "-f", "agent.yaml")
        assert (applied.exit_code, f"stigmer mcp login {web.url}" in applied.stderr) == (0, True), (
            applied.stderr
        )
        signed_in = stigmer.run("mcp", "login", "shopper/shop")
        assert (signed_in.exit_code, signed_in.stdout) == (0, ""), signed_in.stderr
        assert f"signed in at {web.url}" in signed_in.stderr
        [listed] = json.loads(stigmer.run("mcp", "list", "shopper", "--json").stdout)
        assert (listed["state"], listed["login"]) == ("not pinned yet", "signed in")
        web.authorization.end_tokens()
        ran = stigmer.run("run", "shopper", "Go. [conversation shop]", "--json")
        assert ran.exit_code == 0, ran.stderr
        assert (web.calls, web.authorization.renewals) == (["add"], 1)
        for secret in web.authorization.given:
            assert secret not in ran.stdout + ran.stderr + signed_in.stderr + applied.stderr
        assert files_with(stack.home, web.authorization.given) == []
        web.authorization.end_sign_ins()
        waits = stigmer.run("run", "shopper", "Go. [conversation shop]")
        assert waits.exit_code == 4, waits.stderr
        [waiting] = json.loads(stigmer.run("inbox", "--json").stdout)
        assert (waiting["kind"], waiting["title"]) == ("login", f"Sign in at {web.url}")
        assert f"stigmer mcp login {waiting['input_id'][-6:]}" in waits.stderr
        again = stigmer.run("mcp", "login", waiting["input_id"])
        assert again.exit_code == 0, again.stderr
        followed = stigmer.run("executions", "follow", waiting["execution_id"])
        assert (followed.exit_code, web.calls) == (0, ["add", "add"]), followed.stderr
        assert stigmer.run("mcp", "logout", "shop").exit_code == 0
        again = stigmer.run("mcp", "logout", web.url)
        assert (again.exit_code, again.stderr) == (1, f"error: you are not signed in at {web.url}\n")
