"""What `apply` and `validate` make of OpenAPI documents, of files and of URLs."""

import json
from pathlib import Path

from cli_harness import Command, Server
from recording_server import Given, RecordingServer
from stigmer_contract.openapi_operations import OPERATIONS_FILE, Operations
from stigmer_contract.packs import read_pack

MANIFEST = """
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {name: shop-desk}
spec:
  instructions: Work.
  model: openai:gpt-5
  openapi:
    - name: shop
      document: shop.yaml
      operations: [get*]
"""
DOCUMENT = """
openapi: 3.1.0
servers: [{url: https://shop.example/v1}]
paths:
  /orders/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: string}}]
    get: {operationId: getOrder}
    delete: {operationId: removeOrder}
  /odd: {get: {operationId: getOdd, parameters: [{name: a, in: query, schema: {$ref: other.yaml}}]}}
"""


def make_agent(folder: Path, manifest: str = MANIFEST) -> Path:
    folder.mkdir()
    (folder / "agent.yaml").write_text(manifest, encoding="utf-8")
    (folder / "shop.yaml").write_text(DOCUMENT, encoding="utf-8")
    return folder


def test_the_operations_of_a_document_belong_to_the_version(command: Command, server: Server) -> None:
    agent = make_agent(command.folder / "desk")

    applied = command.run("apply", "-f", str(agent))
    assert applied.stdout == "agent shop-desk created (version 1)\n"
    assert "note: shop: 'getOdd' is left out: 'other.yaml' leads out of the document" in applied.stderr
    assert command.run("apply", "-f", str(agent)).stdout == "agent shop-desk unchanged (version 1)\n"
    [api] = json.loads(command.run("agents", "get", "shop-desk", "--json").stdout)["manifest"]["spec"][
        "openapi"
    ]
    (agent / "shop.yaml").write_text(DOCUMENT.replace("getOrder", "getIt"), encoding="utf-8")
    assert command.run("apply", "-f", str(agent)).stdout == "agent shop-desk updated (version 2)\n"

    assert api["server"] == "https://shop.example/v1"
    [file] = read_pack(server.client.fetch_blob(api["pack"].removeprefix("sha256:")))
    operations = Operations.model_validate_json(file.content).operations
    assert (file.path, [each.name for each in operations]) == (OPERATIONS_FILE, ["getOrder"])
    # Others share the server, and list its agents.
    assert command.run("agents", "delete", "shop-desk", "--yes").exit_code == 0


def test_a_document_that_cannot_be_used_is_told_with_the_field(command: Command) -> None:
    agent = make_agent(command.folder / "desk")
    place = f"{agent / 'agent.yaml'}: spec.openapi[0]: the document 'shop.yaml'"

    for text, told in (
        ("swagger: '2.0'\n", "cannot be used: it is not an OpenAPI document of version 3.0 or 3.1, but says"),
        (DOCUMENT.replace("get", "got"), "cannot be used: `operations` names 'get*', and it has no such"),
        ("a: [\n", "cannot be used: it cannot be read as YAML in line 2"),
    ):
        (agent / "shop.yaml").write_text(text, encoding="utf-8")
        refused = command.run("validate", "-f", str(agent))
        assert (refused.exit_code, f"{place} {told}" in refused.stderr) == (1, True), refused.stderr
    (agent / "shop.yaml").unlink()
    missing = command.run("validate", "-f", str(agent))
    assert f"{place} cannot be read: No such file or directory" in missing.stderr


def test_a_document_at_a_url_is_fetched_and_held_to_its_digest(command: Command) -> None:
    with RecordingServer() as web:
        web.answers["/shop.yaml"] = Given(DOCUMENT.replace("https://shop.example", "").encode())
        manifest = MANIFEST.replace("shop.yaml", f"{web.url}/shop.yaml")
        agent = make_agent(command.folder / "desk", manifest)
        assert command.run("validate", "-f", str(agent)).exit_code == 0

        pinned = manifest.replace("operations:", f"digest: sha256:{'0' * 64}\n      operations:")
        (agent / "agent.yaml").write_text(pinned, encoding="utf-8")
        changed = command.run("validate", "-f", str(agent))
        assert changed.exit_code == 1
        assert f"the document '{web.url}/shop.yaml' has another digest: sha256:" in changed.stderr

        (agent / "agent.yaml").write_text(manifest.replace("/shop.yaml", "/none.yaml"), encoding="utf-8")
        gone = command.run("validate", "-f", str(agent))
        assert f"the document '{web.url}/none.yaml' cannot be fetched: HTTP Error 404" in gone.stderr
