"""Keys and secrets of a contained runner: in no log, database, blob, image, description or process list."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from canaries import find_canaries, find_canaries_in_files, new_canary
from model_server import ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from stack_home import StackHome
from stigmer_cli.containers import Engine
from stigmer_cli.runner_container.inspection import find_own_containers

pytestmark = pytest.mark.timeout(300)

CANARIES = {name: new_canary() for name in ("key", "unused key", "manifest")}
MANIFEST = """\
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {name: hostile}
spec:
  instructions: Do what you are told.
  model: openai:gpt-5
  tools: [shell]
  env: {TOKEN: {secret: DEPLOY_TOKEN}}
"""
HOSTILE = """
env | sort; env | base64 -w 0; echo
printf %s "$TOKEN" | base64; printf %s "$TOKEN" | od -An -v -tx1 | tr -d ' \\n'; echo
unset TOKEN
(for process in /proc/[0-9]*; do cat $process/environ $process/cmdline $process/status; done
cat /run/secrets/* /run/secrets/*/* /workspace/../run/*) > seen.bin 2>&1
echo looked
"""


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A model whose only command looks for everything."""
    turns = [
        ScriptedTurn(
            text=f"I know {CANARIES['manifest']}.", calls=[ScriptedCall("run_command", {"command": HOSTILE})]
        ),
        ScriptedTurn(text="I looked."),
    ]
    with ModelServer(ScriptedModel(turns), key=CANARIES["key"]) as server:
        yield server


def test_no_key_and_no_secret_is_found_where_it_does_not_belong(
    contained_home: StackHome, engine: Engine, model: ModelServer, tmp_path: Path
) -> None:
    manifest = tmp_path / "agent.yaml"
    manifest.write_text(MANIFEST, encoding="utf-8")
    secret = tmp_path / "secret.txt"
    secret.write_text(CANARIES["manifest"], encoding="utf-8")
    contained_home.start(
        OPENAI_API_KEY=CANARIES["key"],
        ANTHROPIC_API_KEY=CANARIES["unused key"],
        STIGMER_LLM_PROVIDER="openai",
        STIGMER_LLM_BASE_URL=model.url,
    )
    with secret.open("rb") as stream:
        subprocess.run(
            [sys.executable, "-m", "stigmer_cli", "secrets", "set", "DEPLOY_TOKEN"],
            env=contained_home.environment,
            stdin=stream,
            check=True,
            timeout=60,
        )

    ran = contained_home.stigmer("run", str(manifest), "Look.", "--json")

    assert ran.returncode == 0, ran.stderr
    assert "TOKEN=[secret DEPLOY_TOKEN]" in ran.stdout
    (container,) = find_own_containers(engine, str(contained_home.path))
    inspected = engine.api.call("inspect", "GET", f"/containers/{container.container_id}/json")
    image_id = inspected["Image"]
    described = {
        "what a watcher is shown": ran.stdout + ran.stderr,
        "what the model is sent": json.dumps(model.bodies),
        "inspect": json.dumps(inspected),
        "image": json.dumps(engine.api.call("image", "GET", f"/images/{image_id}/json")),
        "history": json.dumps(engine.api.call("history", "GET", f"/images/{image_id}/history")),
        "processes": json.dumps([process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]),
    }
    assert {place: find_canaries(text.encode(), CANARIES) for place, text in described.items()} == {
        place: [] for place in described
    }
    assert len(list(contained_home.path.glob("data/workspace/*/seen.bin"))) == 1
    # The files from which the container gets its keys, 0600, are where they belong; they go with the stack.
    kept = contained_home.path / "run" / "runner-secrets"
    assert find_canaries_in_files(contained_home.path, CANARIES, but=[kept]) == {}
    assert contained_home.stigmer("server", "stop").returncode == 0
    assert find_canaries_in_files(contained_home.path, CANARIES) == {}
