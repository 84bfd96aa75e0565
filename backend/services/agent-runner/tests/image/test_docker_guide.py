"""What docs/docker.md and the README say is true: the commands run, the files hold, the table is complete."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from agent_runner.settings import variables
from container_engine import SERVICE, Container, Engine
from image_registry import PASSWORD, USER, ImageRegistry
from running_stack import RunningStack
from temporal_server import free_port

GUIDE = SERVICE / "docs/docker.md"
README = SERVICE / "README.md"
GUIDE_TIMEOUT_SECONDS = 900


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ImageRegistry]:
    """Where the guide publishes to."""
    with ImageRegistry(tmp_path / "registry") as registry:
        yield registry


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_the_commands_run_in_order(
    engine: Engine, image: str, stack: RunningStack, registry: ImageRegistry, tmp_path: Path
) -> None:
    """The guide's names for image, container, volume and places are exchanged for the test's own."""
    home = tmp_path / "home"
    (home / ".stigmer/run").mkdir(parents=True)
    (home / ".stigmer/run/token").write_text(stack.token, encoding="utf-8")
    name = f"stigmer-test-{uuid4().hex[:12]}"
    commands = "\n".join([*blocks(README, "sh"), "make stop", "cd ../../..", *blocks(GUIDE, "sh")])
    [dockerfile] = blocks(GUIDE, "dockerfile")
    for written, exchanged in {
        "ghcr.io/stigmer/agent-runner:dev-local": image,
        "stigmer-agent-runner": name,
        "stigmer-workspace": name,
        "my-agent-runner": f"localhost/stigmer-tests/{name}",
        "--file Dockerfile.mine .": f"--file {tmp_path}/Dockerfile.mine {tmp_path}/context",
        "agent-runner.tar.gz": f"{tmp_path}/agent-runner.tar.gz",
        "VERSION=1.2.3": f"VERSION=1.2.3 IMAGE={registry.repository}",
    }.items():
        commands = commands.replace(written, exchanged)
        dockerfile = dockerfile.replace(written, exchanged)
    (tmp_path / "context").mkdir()
    (tmp_path / "Dockerfile.mine").write_text(dockerfile, encoding="utf-8")
    repository, _, version = image.rpartition(":")
    environment = registry.environment | {
        "HOME": str(home),
        "ENGINE": engine.kind,
        "IMAGE": repository,
        "VERSION": version,
        "CONTAINER": name,
        "REGISTRY": registry.address,
        "REGISTRY_USER": USER,
        "REGISTRY_PASSWORD": PASSWORD,
        "TEMPORAL_SERVICE_ADDRESS": stack.temporal.address,
        "STIGMER_BACKEND_ENDPOINT": stack.endpoint,
        "STIGMER_HEALTH_PORT": str(free_port()),
    }
    # `build` runs where these tests run; what is pushed is built under its name first.
    prelude = f"""
        make() {{ command make -o build "$@"; }}
        trap 'make clean VERSION=1.2.3 IMAGE={registry.repository} >/dev/null 2>&1' EXIT
        docker tag {shlex.quote(image)} {registry.repository}:1.2.3
    """
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", prelude + commands],
            cwd=SERVICE,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GUIDE_TIMEOUT_SECONDS,
            check=False,
        )
    finally:
        Container(engine, name).remove()
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert registry.tags() == {"1.2.3", "1.2", "1", "latest", "1.2.3-amd64", "1.2.3-arm64"}
    assert "4321:4321\n" in done.stdout
    assert '{"mine":true}\n' in done.stdout


def test_the_table_of_variables_is_the_runner_s() -> None:
    table = GUIDE.read_text(encoding="utf-8").partition("<!-- variables:")[2].partition("<!-- end")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    expected: list[str] = []
    for variable in variables():
        name = f"`{variable.name}`" + (f", `{variable.name}_FILE`" if variable.is_secret else "")
        default = f"`{variable.default}`" if variable.default is not None else "required" * variable.required
        expected.append(f"| {name} | {default} | {variable.description} |")
    assert rows == expected


def test_links_lead_somewhere() -> None:
    for page in (GUIDE, README):
        text = page.read_text(encoding="utf-8")
        headings = {
            re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        }
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            assert (page.parent / path).exists() if path else anchor in headings, target


def test_the_quick_start_has_at_most_five_lines() -> None:
    [quick_start] = blocks(README, "sh")
    assert len(quick_start.splitlines()) <= 5


def test_the_deployment_passes_the_restricted_pod_security_standard() -> None:
    """Kubernetes, Pod Security Standards, policy `restricted` (v1.34)."""
    [text] = blocks(GUIDE, "yaml")
    deployment: dict[str, Any] = yaml.safe_load(text)
    template = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    pod = template["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] != 0
    assert pod["securityContext"]["seccompProfile"]["type"] in ("RuntimeDefault", "Localhost")
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    assert all(volume.keys() - {"name"} <= allowed for volume in pod["volumes"])
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not any("hostPort" in port for port in container.get("ports", []))
        assert {mount["name"] for mount in container["volumeMounts"]} <= {v["name"] for v in pod["volumes"]}
        known = {variable.name for variable in variables()}
        assert {entry["name"].removesuffix("_FILE") for entry in container["env"]} <= known
    grace = next(
        e["value"] for e in pod["containers"][0]["env"] if e["name"] == "STIGMER_DRAIN_GRACE_SECONDS"
    )
    assert float(grace) < pod["terminationGracePeriodSeconds"]
