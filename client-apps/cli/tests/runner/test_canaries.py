"""Keys and secrets of a contained runner: in no log, database, blob, image, description or process list."""

import asyncio
import json
import secrets
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import temporalio.client

from canaries import find_canaries, find_canaries_in_files, new_canary
from model_server import ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from small_image import write_image_archive
from stack_home import StackHome
from stigmer_cli.containers import Container, ContainerSpec, Engine
from stigmer_cli.runner.inspection import find_own_containers

pytestmark = pytest.mark.timeout(600)

CANARIES = {name: new_canary() for name in ("environment", "file", "manifest")}
"""A key in the environment of the stack; one that it reads from a file; a secret of the manifest."""
PLANTED = {"planted": new_canary()}
"""No secret: written to each place that is searched, to show that the search would find one there."""
MANIFEST = """\
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {name: hostile}
spec:
  instructions: Do what you are told.
  model: openai:gpt-5
  tools: [shell, files]
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


def call(tool: str, **arguments: str) -> ScriptedTurn:
    return ScriptedTurn(
        text=f"I know {CANARIES['manifest']}." if tool == "run_command" else PLANTED["planted"],
        calls=[ScriptedCall(tool, dict(arguments))],
    )


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A model whose only command looks for everything; and, in another conversation, a careless one."""
    turns = [call("run_command", command=HOSTILE), ScriptedTurn(text="I looked.")]
    content = f"{PLANTED['planted']} " * 2000  # large enough to become a blob
    careless = [call("write_file", path="large.txt", content=content), ScriptedTurn(text="I wrote.")]
    script = ScriptedModel(turns, conversations={"careless": careless})
    with ModelServer(script, key=CANARIES["file"]) as server:
        yield server


def test_no_key_and_no_secret_is_found_where_it_does_not_belong(
    contained_home: StackHome, engine: Engine, model: ModelServer, tmp_path: Path
) -> None:
    start_with_secrets(contained_home, model, tmp_path)
    manifest = tmp_path / "agent.yaml"
    manifest.write_text(MANIFEST, encoding="utf-8")

    ran = contained_home.stigmer("run", str(manifest), "Look.", "--json")

    assert ran.returncode == 0, ran.stderr
    assert "TOKEN=[secret DEPLOY_TOKEN]" in ran.stdout
    assert len(list(contained_home.path.glob("data/workspace/*/seen.bin"))) == 1
    (container,) = find_own_containers(engine, str(contained_home.path))
    described = {
        "what a watcher is shown": (ran.stdout + ran.stderr).encode(),
        "what the model is sent": json.dumps(model.bodies).encode(),
        **describe(engine, container),
    }
    assert found_in(described, CANARIES) == {place: [] for place in described}
    # The files from which the container gets its keys, 0600, are where they belong; they go with the stack.
    kept = contained_home.path / "run" / "runner-secrets"
    assert find_canaries_in_files(kept, CANARIES) != {}
    assert find_canaries_in_files(contained_home.path, CANARIES, but=[kept]) == {}
    assert contained_home.stigmer("server", "stop").returncode == 0
    assert find_canaries_in_files(contained_home.path, CANARIES) == {}


def test_what_is_planted_is_found_in_each_place_that_is_searched(
    contained_home: StackHome, engine: Engine, model: ModelServer, tmp_path: Path
) -> None:
    start_with_secrets(contained_home, model, tmp_path)
    manifest = tmp_path / "agent.yaml"
    manifest.write_text(MANIFEST, encoding="utf-8")

    prompt = f"Be careless with {PLANTED['planted']}. [conversation careless]"
    ran = contained_home.stigmer("run", str(manifest), prompt, "--json")
    asyncio.run(tell_temporal(contained_home.ports["temporal"]))
    logs = [path for path in (contained_home.path / "logs").iterdir() if path.is_file()]
    for log in logs:
        with log.open("a", encoding="utf-8") as written:
            written.write(f"leaked {PLANTED['planted']}\n")

    assert ran.returncode == 0, ran.stderr
    with leaky_container(engine, tmp_path) as leaky:
        described = {
            "what a watcher is shown": (ran.stdout + ran.stderr).encode(),
            "what the model is sent": json.dumps(model.bodies).encode(),
            **describe(engine, leaky),
        }
    assert found_in(described, PLANTED) == {place: ["planted"] for place in described}
    found = set(find_canaries_in_files(contained_home.path, PLANTED))
    assert {f"logs/{log.name}" for log in logs} <= found
    for place in ("data/stigmer.db", "data/temporal.db", "data/blobs/", "data/workspace/"):
        assert any(path.startswith(place) for path in found), (place, found)


def start_with_secrets(home: StackHome, model: ModelServer, folder: Path) -> None:
    """Start the stack with a canary of each kind, the manifest's stored on the server."""
    secret, key = folder / "secret.txt", folder / "key.txt"
    secret.write_text(CANARIES["manifest"], encoding="utf-8")
    key.write_text(CANARIES["file"], encoding="utf-8")
    home.start(
        OPENAI_API_KEY_FILE=str(key),
        ANTHROPIC_API_KEY=CANARIES["environment"],
        STIGMER_LLM_PROVIDER="openai",
        STIGMER_LLM_BASE_URL=model.url,
    )
    with secret.open("rb") as stream:
        subprocess.run(
            [sys.executable, "-m", "stigmer_cli", "secrets", "set", "DEPLOY_TOKEN"],
            env=home.environment,
            stdin=stream,
            check=True,
            timeout=60,
        )


def describe(engine: Engine, container: Container) -> dict[str, bytes]:
    """What the engine tells of a container and its image, and the machine of its processes."""
    inspected = engine.api.call("inspect", "GET", f"/containers/{container.container_id}/json")
    image = f"/images/{inspected['Image']}"
    with container.logs() as stream:
        said = b"".join(piece for _, piece in stream.pieces())
    told = {
        "inspect": inspected,
        "image": engine.api.call("image", "GET", f"{image}/json"),
        "history": engine.api.call("history", "GET", f"{image}/history"),
        "processes": [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])],
    }
    return {"the container's log": said} | {place: json.dumps(text).encode() for place, text in told.items()}


def found_in(described: Mapping[str, bytes], canaries: Mapping[str, str]) -> dict[str, list[str]]:
    """The names of the canaries in each place."""
    return {place: find_canaries(content, canaries) for place, content in described.items()}


async def tell_temporal(port: int) -> None:
    """Start a workflow that nobody takes, with the canary in its input."""
    client = await temporalio.client.Client.connect(f"127.0.0.1:{port}")
    await client.start_workflow("Careless", PLANTED["planted"], id="careless", task_queue="nobody")


@contextmanager
def leaky_container(engine: Engine, folder: Path) -> Generator[Container]:
    """A container as no runner's is: the canary is in its image, its variables, its process, its log."""
    name, value = f"stigmer-tests-leaky-{secrets.token_hex(4)}", PLANTED["planted"]
    image = f"localhost/{name}:1"
    archive = write_image_archive(
        folder / "leaky.tar", image, labels={"leak": value}, created_by=f"/bin/sh -c echo {value}"
    )
    engine.images.load(archive)
    # The shell stays, and with it the value among its arguments.
    script = "echo leaked $0; while true; do sleep 1; done"
    spec = ContainerSpec(
        name=name, image=image, entrypoint=("sh", "-c", script, value), environment={"LEAK": value}
    )
    created = engine.create(spec)
    try:
        created.start()
        with created.logs(follow=True) as stream:
            next(stream.pieces())
        yield created
    finally:
        created.stop(0)
        created.remove()
        engine.api.call("remove", "DELETE", f"/images/{image}", query={"force": "true"})
