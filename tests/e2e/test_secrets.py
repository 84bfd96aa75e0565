"""Secrets reach the commands that they are for and nothing else: looked for in all that is written."""

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from canaries import find_canaries, find_canaries_in_files, new_canary
from e2e_script import QUICK_HEARTBEAT, runner_environment
from executions import Execution, agent_manifest, inline, snapshot_blobs, tool_results
from model_server import ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from running_stack import RunningStack
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import BlobPayload, ExecutionFailed, ToolStarted

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("secrets")]

CANARIES = {name: new_canary() for name in ("environment", "file", "manifest", "endpoint")}
"""A provider's key in the runner's environment; one that it reads from a file; a secret of the manifest; one
that is the key of a model's endpoint."""
TOKEN = CANARIES["manifest"]
SECRET_NAME = "DEPLOY_TOKEN"
MODEL_KEY = "ACME_KEY"

PRINT_EVERYTHING = """
env | sort
printf %s "$TOKEN" | sha256sum > token.sha256
printf %s "$TOKEN" > token.txt
printf %s "$TOKEN" | base64
env | base64 -w 0; echo
printf 'xy%s' "$TOKEN" | base64 -w 20
printf %s "$TOKEN" | od -An -v -tx1 | tr -d ' \\n'; echo
python3 - <<'END'
import json, os, urllib.parse
token = os.environ["TOKEN"]
print(json.dumps({"token": token}), json.dumps(json.dumps(token)))
print(urllib.parse.quote(token, safe=""), urllib.parse.urlencode({"token": token}))
END
echo "failed: $TOKEN" >&2
"""
PRINT_IN_PIECES = """
python3 - <<'END'
import os, sys, time
for character in "<" + os.environ["TOKEN"] + ">":
    sys.stdout.write(character)
    sys.stdout.flush()
    time.sleep(0.02)
END
"""
LOOK_AROUND = """
exec > seen.bin 2>&1
env
for process in /proc/[0-9]*; do
  cat $process/environ $process/cmdline $process/comm $process/status
  ls -l $process/fd $process/cwd
done
ps axeww
cat {home}/secrets/* {home}/secrets.key {home}/data/stigmer.db* {home}/logs/*
cat {home}/data/workspace/*/token.txt
find / -xdev -name 'token.txt' -exec cat {{}} +
true
"""


SLEEPING_TURN = 5


def call(command: str) -> ScriptedTurn:
    return ScriptedTurn(calls=[ScriptedCall("run_command", {"command": command})])


def script(home: Path) -> ScriptedModel:
    """A hostile agent with the secret, and one without it that looks for it meanwhile."""
    holder = [
        call(PRINT_EVERYTHING),
        call(PRINT_IN_PIECES),
        ScriptedTurn(calls=[ScriptedCall("read_file", {"path": "token.txt"})]),
        # A model that knows the value from elsewhere: in an answer, in arguments, in what becomes a blob.
        ScriptedTurn(
            text=f"The token is {TOKEN}, I write it down.",
            calls=[ScriptedCall("write_file", {"path": "large.txt", "content": f"{TOKEN} " * 3000})],
        ),
        call("sleep 600"),
        ScriptedTurn(text=f"Done with {TOKEN}."),
    ]
    looker = [call(LOOK_AROUND.format(home=home)), ScriptedTurn(text="I looked.")]
    return ScriptedModel([ScriptedTurn(text="fine")], conversations={"holder": holder, "looker": looker})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets")


@pytest.fixture(scope="module")
def model(home: Path) -> Iterator[ModelServer]:
    with ModelServer(script(home), key=CANARIES["file"]) as server:
        yield server


@pytest.fixture(scope="module")
def acme() -> Iterator[ModelServer]:
    """An endpoint whose key is a secret that the server keeps."""
    turns = [call("env | sort"), ScriptedTurn(text=f"My key is {CANARIES['endpoint']}.")]
    with ModelServer(ScriptedModel(turns), key=CANARIES["endpoint"]) as server:
        yield server


@pytest.fixture(scope="module")
def stack(model: ModelServer, acme: ModelServer, home: Path) -> Iterator[RunningStack]:
    key_file = home / "secrets" / "llm-api-key"
    key_file.parent.mkdir()
    key_file.write_text(CANARIES["file"], encoding="utf-8")
    environment = runner_environment(model) | {
        "OPENAI_API_KEY": "",
        "STIGMER_LLM_API_KEY_FILE": str(key_file),
        "ANTHROPIC_API_KEY": CANARIES["environment"],
        "LOG_LEVEL": "debug",
    }
    endpoints = {
        "STIGMER_LLM_ENDPOINTS": json.dumps({"acme": {"url": acme.url, "key": f"secret:{MODEL_KEY}"}})
    }
    server_environment = QUICK_HEARTBEAT | endpoints | {"LOG_LEVEL": "debug"}
    with RunningStack(
        home, server_environment=server_environment, runner_environment=environment | endpoints
    ) as running:
        running.client.put(f"/v1/secrets/{SECRET_NAME}", json={"value": TOKEN}).raise_for_status()
        yield running


def watch(stack: RunningStack, execution: Execution, into: list[bytes]) -> threading.Thread:
    """Collects what a watcher is sent, live events included, until the execution ends."""

    def read() -> None:
        headers = {"Accept": "text/event-stream"}
        path = f"/v1/executions/{execution.execution_id}/events"
        with stack.client.stream("GET", path, headers=headers, timeout=120) as response:
            into.extend(response.iter_bytes())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def test_nothing_that_is_written_or_shown_holds_a_secret(
    stack: RunningStack, model: ModelServer, home: Path
) -> None:
    holder = agent_manifest(env={"TOKEN": {"secret": SECRET_NAME}}, limits={"toolTimeout": "8s"})
    execution = Execution.start(stack, holder, "Do it. [conversation holder]")
    shown: list[bytes] = []
    watcher = watch(stack, execution, shown)
    execution.wait_for(
        lambda recorded: isinstance(recorded.event, ToolStarted) and recorded.event.turn == SLEEPING_TURN
    )
    # While a command with the secret runs, another agent and another user of the machine look around.
    looker = Execution.start(stack, agent_manifest(), "Look. [conversation looker]")
    looker.wait_until_completed()
    command_lines = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    execution.wait_until_completed()
    watcher.join(30)

    own = stack.workspace_root / execution.session_id
    # The command did get it, so the search can find something.
    expected = hashlib.sha256(TOKEN.encode()).hexdigest()
    assert (own / "token.sha256").read_text(encoding="utf-8").startswith(expected)
    assert find_canaries((own / "token.txt").read_bytes(), CANARIES) == ["manifest"]
    results = [json.dumps(inline(result.result)) for result in tool_results(execution.events)[:3]]
    assert f"TOKEN=[secret {SECRET_NAME}]" in results[0]
    assert results[0].count(f"[secret {SECRET_NAME}]") >= 10
    assert f"<[secret {SECRET_NAME}]>" in results[1]
    assert f"[secret {SECRET_NAME}]" in results[2]
    assert b"tool.output" in b"".join(shown)
    assert b"model.delta" in b"".join(shown)

    assert find_canaries(b"".join(shown), CANARIES) == []
    assert find_canaries(json.dumps(model.bodies).encode(), CANARIES) == []
    assert find_canaries(json.dumps(command_lines).encode(), CANARIES) == []
    seen = stack.workspace_root / looker.session_id / "seen.bin"
    assert b"PATH=" in seen.read_bytes()
    # What the command wrote into its workspace is in the snapshots of that, and nowhere else.
    kept = snapshot_blobs(execution.events, stack.home / "data" / "blobs")
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in kept)
    assert find_canaries_in_files(home, CANARIES, but=[own, home / "secrets", *kept]) == {}
    blobs = [
        event.arguments
        for event in execution.events
        if isinstance(event, ToolStarted) and isinstance(event.arguments, BlobPayload)
    ]
    assert len(blobs) == 1  # large.txt; it was among the files that were searched


def test_a_later_leg_goes_on_from_the_masked_texts(stack: RunningStack) -> None:
    holder = agent_manifest(env={"TOKEN": {"secret": SECRET_NAME}}, limits={"toolTimeout": "5s"})
    execution = Execution.start(stack, holder, "Do it. [conversation holder]")
    execution.wait_for(lambda recorded: recorded.sequence >= 6)
    stack.kill_runner(stack.runners[-1])
    stack.start_runner("after-kill", wait=False)
    execution.wait_until_completed()
    log = json.dumps([recorded.model_dump(mode="json") for recorded in execution.log])
    assert find_canaries(log.encode(), CANARIES) == []


def test_a_secret_that_is_deleted_meanwhile_fails_the_execution_at_once(stack: RunningStack) -> None:
    stack.client.put("/v1/secrets/SHORT_LIVED", json={"value": "for-a-moment"}).raise_for_status()
    for runner in stack.runners:
        stack.kill_runner(runner)
    manifest = agent_manifest(env={"TOKEN": {"secret": "SHORT_LIVED"}})
    execution = Execution.start(stack, manifest, "Hello.")
    stack.client.delete("/v1/secrets/SHORT_LIVED").raise_for_status()
    stack.start_runner("after-deletion")
    resource = execution.wait_until_ended()
    assert resource.error is not None
    assert resource.error.code is ErrorCode.SECRET_MISSING
    [failed] = [event for event in execution.events if isinstance(event, ExecutionFailed)]
    assert failed.hint == "run `stigmer secrets set SHORT_LIVED`, then start the execution again"


def test_a_secret_that_is_the_key_of_a_models_endpoint_reaches_the_model_alone(
    stack: RunningStack, acme: ModelServer, home: Path
) -> None:
    manifest = agent_manifest(model="acme:large")
    without = Execution.start(stack, manifest, "Without a key.").wait_until_ended()
    assert without.error is not None
    assert without.error.code is ErrorCode.MODEL_NOT_CONFIGURED
    assert without.error.message == "there is no API key for endpoint 'acme'"
    stack.client.put(f"/v1/secrets/{MODEL_KEY}", json={"value": "two\nlines"}).raise_for_status()
    broken = Execution.start(stack, manifest, "With no key of one line.").wait_until_ended()
    assert broken.error is not None
    assert broken.error.message.endswith("holds characters that no HTTP header can carry")

    key = CANARIES["endpoint"]
    stack.client.put(f"/v1/secrets/{MODEL_KEY}", json={"value": f"{key}\n"}).raise_for_status()
    execution = Execution.start(stack, manifest, "With the key.")
    execution.wait_until_completed()

    assert acme.asked  # it answers nobody without the key
    log = json.dumps([recorded.model_dump(mode="json") for recorded in execution.log])
    assert f"My key is [secret {MODEL_KEY}]." in log
    assert find_canaries(log.encode(), {"endpoint": key}) == []
    assert find_canaries_in_files(home, {"endpoint": key}) == {}
