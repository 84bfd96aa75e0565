"""What `apply`, `run` and `validate` make of files that manifests name."""

import json
from pathlib import Path

from cli_harness import Command, Server
from stigmer_contract.packs import read_pack

MANIFEST = """
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {name: desk}
spec:
  instructions: Work.
  model: openai:gpt-5
  scripts:
    - name: look
      description: Look.
      command: [python3, tools/look.py, --all, .]
      files: [data]
"""


def make_agent(folder: Path) -> Path:
    agent = folder / "desk"
    (agent / "tools").mkdir(parents=True)
    (agent / "data" / "more").mkdir(parents=True)
    (agent / "agent.yaml").write_text(MANIFEST, encoding="utf-8")
    (agent / "tools" / "look.py").write_text("print(1)\n", encoding="utf-8")
    (agent / "tools" / "look.py").chmod(0o755)
    (agent / "data" / "more" / "a.csv").write_text("a\n", encoding="utf-8")
    (agent / "data" / ".env").write_text("KEY=x\n", encoding="utf-8")
    (agent / "data" / "link.csv").symlink_to("more/a.csv")
    (agent / "unnamed.txt").write_text("no\n", encoding="utf-8")
    return agent


def pack_reference(command: Command) -> str:
    manifest = json.loads(command.run("agents", "get", "desk", "--json").stdout)["manifest"]
    return manifest["spec"]["scripts"][0]["pack"]


def test_named_files_are_packed_and_belong_to_the_version(command: Command, server: Server) -> None:
    agent = make_agent(command.folder)

    assert command.run("validate", "-f", str(agent)).exit_code == 0
    assert command.run("apply", "-f", str(agent)).stdout == "agent desk created (version 1)\n"
    first = pack_reference(command)
    assert command.run("apply", "-f", str(agent)).stdout == "agent desk unchanged (version 1)\n"
    (agent / "unnamed.txt").write_text("changed\n", encoding="utf-8")
    assert command.run("apply", "-f", str(agent)).stdout == "agent desk unchanged (version 1)\n"
    (agent / "tools" / "look.py").write_text("print(2)\n", encoding="utf-8")
    assert command.run("apply", "-f", str(agent)).stdout == "agent desk updated (version 2)\n"
    assert pack_reference(command) != first

    pack = server.client.fetch_blob(first.removeprefix("sha256:"))
    files = {file.path: (file.content, file.is_executable) for file in read_pack(pack)}
    assert files == {
        "data/link.csv": (b"a\n", False),
        "data/more/a.csv": (b"a\n", False),
        "tools/look.py": (b"print(1)\n", True),
    }
    # Others share the server, and list its agents.
    assert command.run("agents", "delete", "desk", "--yes").exit_code == 0


def test_files_that_cannot_be_packed_are_told_with_the_field(command: Command) -> None:
    agent = make_agent(command.folder)
    (agent / "data" / "out").symlink_to("/etc/passwd")

    refused = command.run("validate", "-f", str(agent / "agent.yaml"))

    assert refused.exit_code == 1
    assert f"{agent}/agent.yaml: spec.scripts[0]: 'data/out' leads out of the folder" in refused.stderr
    (agent / "data" / "out").unlink()
    (agent / "agent.yaml").write_text(MANIFEST.replace("[data]", "[dta]"), encoding="utf-8")
    missing = command.run("apply", "-f", str(agent / "agent.yaml"))
    assert (missing.exit_code, "there is no 'dta' in" in missing.stderr) == (1, True)
    (agent / "agent.yaml").write_text(MANIFEST.replace("[data]", "[../x]"), encoding="utf-8")
    outside = command.run("validate", "-f", str(agent / "agent.yaml"))
    assert (
        "agent.yaml:12:15: spec.scripts[0].files[0]: '../x' leads out of the manifest's folder"
        in outside.stderr
    )


def test_a_script_s_parameters_are_checked_as_a_schema(command: Command) -> None:
    text = MANIFEST + "      parameters: {type: object, properties: {a: {type: strng}}}\n"

    refused = command.run("validate", "-f", "-", text=text)

    assert refused.exit_code == 1
    assert "-:13:19: spec.scripts[0].parameters: properties.a.type: 'strng' is no type" in refused.stderr
