"""Scripts through a whole stack: what a kill in one means, and where their secrets go."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from canaries import find_canaries, find_canaries_in_files, new_canary
from e2e_script import QUICK_HEARTBEAT, runner_environment
from executions import Execution, agent_manifest, inline, tool_results
from model_server import ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from running_stack import RunningStack
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.events import RecordedEvent, ToolFinished, ToolStarted
from stigmer_contract.packs import PackedFile, write_pack

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("scripts")]

CANARIES = {"script": new_canary()}
TOKEN = CANARIES["script"]
SECRET_NAME = "SHOP_TOKEN"

DEPLOY = b"""#!/bin/sh
echo "$1" >> "$WORKSPACE/done.txt"
while ! [ -e "$WORKSPACE/go-on" ] && ! [ -e "$WORKSPACE/answered-$1" ]; do sleep 0.1; done
echo deployed
"""
SHOW = b"""#!/bin/sh
printf %s "$TOKEN" | sha256sum
echo "it is $TOKEN"
echo "$TOKEN" >&2
touch "$WORKSPACE/shown"
while ! [ -e "$WORKSPACE/go-on" ]; do sleep 0.1; done
"""
LOOK_AROUND = """
exec > seen.bin 2>&1
env
for process in /proc/[0-9]*; do cat $process/environ $process/cmdline; ls -l $process/fd $process/cwd; done
cat {home}/secrets.key {home}/data/stigmer.db* {home}/logs/* {home}/data/workspace/.packs/*/*/*
true
"""


def call(tool: str, **arguments: str) -> ScriptedTurn:
    return ScriptedTurn(calls=[ScriptedCall(tool, arguments)])


def script(home: Path) -> ScriptedModel:
    done = ScriptedTurn(text="Done.")
    look = call("run_command", command=LOOK_AROUND.format(home=home))
    return ScriptedModel(
        [done],
        conversations={
            "deploy": [call("deploy"), call("run_command", command="cat done.txt"), done],
            "read": [call("read"), done],
            "holder": [call("show"), call("run_command", command="env; cat /proc/*/environ; true"), done],
            "looker": [look, done],
        },
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scripts")


@pytest.fixture(scope="module")
def stack(home: Path) -> Iterator[RunningStack]:
    with ModelServer(script(home)) as model:
        environment = runner_environment(model) | {"LOG_LEVEL": "debug"}
        with RunningStack(
            home, server_environment=QUICK_HEARTBEAT | {"LOG_LEVEL": "debug"}, runner_environment=environment
        ) as running:
            running.client.put(f"/v1/secrets/{SECRET_NAME}", json={"value": TOKEN}).raise_for_status()
            yield running


def upload(client: httpx.Client, name: str, content: bytes) -> str:
    """A pack of one program on the server; its reference."""
    pack = write_pack([PackedFile(name, content, True)])
    digest = hashlib.sha256(pack).hexdigest()
    client.put(f"/v1/blobs/{digest}", content=pack).raise_for_status()
    return f"sha256:{digest}"


def with_scripts(*scripts: dict[str, Any]) -> dict[str, Any]:
    manifest = agent_manifest()
    manifest["spec"]["scripts"] = [{"description": "A script.", **each} for each in scripts]
    return manifest


def release(stack: RunningStack, execution: Execution, name: str = "go-on") -> None:
    (stack.workspace_root / execution.session_id / name).touch()


def began(tool: str) -> Callable[[RecordedEvent], bool]:
    return lambda recorded: isinstance(recorded.event, ToolStarted) and recorded.event.tool == tool


def test_a_script_whose_runner_is_killed_is_not_run_again_and_its_outcome_is_unknown(
    stack: RunningStack,
) -> None:
    pack = upload(stack.client, "deploy.sh", DEPLOY)
    manifest = with_scripts({"name": "deploy", "command": ["./deploy.sh", "once"], "pack": pack})
    execution = Execution.start(stack, manifest, "Go. [conversation deploy]")
    execution.wait_for(began("deploy"))
    stack.kill_runner(stack.runners[-1])
    stack.start_runner("after-kill", wait=False)
    # Where the kill was before the script's first line, or in it: it ran once at most.
    execution.wait_until_completed()

    deployed, looked = tool_results(execution.events)
    assert (deployed.tool, deployed.toolset, deployed.outcome) == ("deploy", "scripts", ToolOutcome.UNKNOWN)
    marks = stack.workspace_root / execution.session_id / "done.txt"
    assert not marks.exists() or marks.read_text(encoding="utf-8") == "once\n"
    assert looked.tool == "run_command"


def test_a_script_that_only_reads_is_run_again(stack: RunningStack) -> None:
    pack = upload(stack.client, "deploy.sh", DEPLOY)
    read = {"name": "read", "command": ["./deploy.sh", "twice"], "pack": pack, "sideEffects": False}
    execution = Execution.start(stack, with_scripts(read), "Go. [conversation read]")
    execution.wait_for(began("read"))
    stack.kill_runner(stack.runners[-1])
    release(stack, execution)
    stack.start_runner("after-reading", wait=False)
    execution.wait_until_completed()

    [result] = tool_results(execution.events)
    assert (result.outcome, "deployed" in json.dumps(inline(result.result))) == (ToolOutcome.SUCCEEDED, True)


def test_a_script_s_secret_is_nowhere_else(stack: RunningStack, home: Path) -> None:
    pack = upload(stack.client, "show.sh", SHOW)
    show = {"name": "show", "command": ["./show.sh"], "pack": pack, "env": {"TOKEN": {"secret": SECRET_NAME}}}
    execution = Execution.start(stack, with_scripts(show), "Go. [conversation holder]")
    execution.wait_for(began("show"))
    # While the script runs, another agent looks around.
    looker = Execution.start(stack, agent_manifest(), "Look. [conversation looker]")
    looker.wait_until_completed()
    release(stack, execution)
    execution.wait_until_completed()

    shown, looked = tool_results(execution.events)
    assert hashlib.sha256(TOKEN.encode()).hexdigest() in json.dumps(inline(shown.result))
    assert f"it is [secret {SECRET_NAME}]" in json.dumps(inline(shown.result))
    assert "PATH=" in json.dumps(inline(looked.result))
    assert SECRET_NAME not in json.dumps(inline(looked.result))
    log = json.dumps([recorded.model_dump(mode="json") for recorded in execution.log])
    assert find_canaries(log.encode(), CANARIES) == []
    seen = stack.workspace_root / looker.session_id / "seen.bin"
    assert b"PATH=" in seen.read_bytes() and b"#!/bin/sh" not in seen.read_bytes()
    assert find_canaries_in_files(home, CANARIES) == {}


def test_somebody_else_s_pack_is_not_to_be_had(stack: RunningStack) -> None:
    foreign = write_pack([PackedFile("x.sh", b"#!/bin/sh\necho mine\n", True)])
    manifest = with_scripts(
        {"name": "deploy", "command": ["./x.sh"], "pack": f"sha256:{hashlib.sha256(foreign).hexdigest()}"}
    )
    execution = Execution.start(stack, manifest, "Go. [conversation deploy]")
    execution.wait_until_completed()

    first = next(event for event in execution.events if isinstance(event, ToolFinished))
    assert first.outcome is ToolOutcome.FAILED
    assert "cannot be had" in json.dumps(inline(first.result))
