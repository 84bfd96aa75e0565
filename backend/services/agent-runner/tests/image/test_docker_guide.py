"""What docs/docker.md and the README say is true: the commands run, the files hold, the table is complete."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import kubernetes_validate
import pytest
import yaml

from agent_runner.settings import variables
from container_engine import OUTSIDE_OF_MAKE, SERVICE, Container, Engine
from fenced_blocks import fenced_blocks
from image_registry import PASSWORD, USER, ImageRegistry
from pod_security import violations
from running_stack import RunningStack
from temporal_server import free_port

GUIDE = SERVICE / "docs/docker.md"
README = SERVICE / "README.md"
GUIDE_TIMEOUT_SECONDS = 900
KUBERNETES_VERSION = "1.34"


@pytest.fixture
def registry(engine: Engine, tmp_path: Path) -> Iterator[ImageRegistry]:
    """Where the guide publishes to."""
    with ImageRegistry(tmp_path / "registry", engine.kind) as registry:
        yield registry


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_the_commands_run_in_order(
    engine: Engine, image: str, stack: RunningStack, registry: ImageRegistry, tmp_path: Path
) -> None:
    """The guide's names for image, container, volume and places are exchanged for the test's own."""
    home = tmp_path / "home"
    (home / ".stigmer/run").mkdir(parents=True)
    (home / ".stigmer/run/runner-token").write_text(stack.runner_token, encoding="utf-8")
    name = f"stigmer-test-{uuid4().hex[:12]}"
    commands = "\n".join(
        [*fenced_blocks(README, "sh"), "make stop", "cd ../../..", *fenced_blocks(GUIDE, "sh")]
    )
    [dockerfile] = fenced_blocks(GUIDE, "dockerfile")
    for written, exchanged in {
        "ghcr.io/stigmer/agent-runner:dev-local": image,
        "stigmer-agent-runner": name,
        "stigmer-workspace": name,
        "my-agent-runner": f"localhost/stigmer-tests/{name}",
        "--file Dockerfile.mine .": f"--file {tmp_path}/Dockerfile.mine {tmp_path}/context",
        "agent-runner.tar.gz": f"{tmp_path}/agent-runner.tar.gz",
        "VERSION=1.2.": f"IMAGE={registry.repository} VERSION=1.2.",
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
    # Types are checked where these tests run; what is pushed is built under its name first.
    prelude = f"""
        make() {{ command make -o check-types "$@"; }}
        trap 'for version in 1.2.3 1.2.4; do
            make clean VERSION=$version IMAGE={registry.repository} >/dev/null 2>&1
        done' EXIT
        docker tag {shlex.quote(image)} {registry.repository}:1.2.3
    """
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", prelude + commands],
            cwd=SERVICE,
            env=os.environ | OUTSIDE_OF_MAKE | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GUIDE_TIMEOUT_SECONDS,
            check=False,
        )
    finally:
        Container(engine, name).remove()
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert registry.tags() == {"1.2.3", "1.2.4", "1.2", "1", "latest", "1.2.4-amd64", "1.2.4-arm64"}
    assert "4321:4321\n" in done.stdout
    assert "mine\n" in done.stdout


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


def test_every_command_is_run_by_a_test() -> None:
    """Those of `sh compose` by test_compose.py."""
    fences = re.findall(r"^```(.*)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(fences[::2]) == {"sh", "sh compose", "dockerfile", "yaml"}
    assert set(fences[1::2]) == {""}


def test_the_quick_start_has_at_most_five_lines() -> None:
    [quick_start] = fenced_blocks(README, "sh")
    assert len(quick_start.splitlines()) <= 5


def deployment() -> dict[str, Any]:
    """The guide's Kubernetes Deployment."""
    [text] = fenced_blocks(GUIDE, "yaml")
    return yaml.safe_load(text)


def test_the_deployment_is_what_kubernetes_takes() -> None:
    kubernetes_validate.validate(deployment(), KUBERNETES_VERSION, strict=True)
    wrong = deployment()
    wrong["spec"]["template"]["spec"]["securityContext"]["runAsNonroot"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="runAsNonroot"):
        kubernetes_validate.validate(wrong, KUBERNETES_VERSION, strict=True)


def test_the_deployment_passes_the_restricted_pod_security_standard() -> None:
    assert violations(deployment()["spec"]["template"]["spec"]) == []


@pytest.mark.parametrize(
    ("path", "value", "violation"),
    [
        ("hostPID", True, "hostPID: must be false"),
        ("volumes/0", {"name": "w", "hostPath": {"path": "/"}}, "volumes: ['hostPath'] are not allowed"),
        ("securityContext/runAsNonRoot", False, "runAsNonRoot: must be true"),
        ("securityContext/runAsUser", 0, "runAsUser: must not be 0"),
        (
            "securityContext/seccompProfile",
            {"type": "Unconfined"},
            "seccompProfile: must be RuntimeDefault or",
        ),
        ("securityContext/sysctls", [{"name": "kernel.msgmax", "value": "1"}], "sysctls: kernel.msgmax"),
        ("containers/0/securityContext/privileged", True, "privileged: must be false"),
        ("containers/0/securityContext/allowPrivilegeEscalation", True, "allowPrivilegeEscalation: must be"),
        ("containers/0/securityContext/capabilities", {"drop": ["CHOWN"]}, "capabilities: must drop ALL"),
        ("containers/0/securityContext/capabilities/add", ["SYS_ADMIN"], "capabilities: may add NET_BIND"),
        ("containers/0/ports", [{"containerPort": 7235, "hostPort": 7235}], "hostPort: must not be set"),
        ("containers/0/startupProbe", {"httpGet": {"host": "10.0.0.1", "port": 1}}, "host: must not be set"),
        ("containers/0/securityContext/appArmorProfile", {"type": "Unconfined"}, "appArmorProfile: must be"),
    ],
)
def test_what_breaks_the_standard_would_be_seen(path: str, value: object, violation: str) -> None:
    pod = deployment()["spec"]["template"]["spec"]
    place: Any = pod
    *parents, last = path.split("/")
    for part in parents:
        place = place[int(part) if part.isdigit() else part]
    place[int(last) if last.isdigit() else last] = value
    [found] = violations(pod)
    assert found.startswith(violation)


def test_the_deployment_knows_the_runner_s_variables_and_leaves_it_time_to_drain() -> None:
    spec = deployment()["spec"]
    template = spec["template"]
    assert spec["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    pod = template["spec"]
    [container] = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    values = {entry["name"]: entry["value"] for entry in container["env"]}
    assert {name.removesuffix("_FILE") for name in values} <= {variable.name for variable in variables()}
    assert float(values["STIGMER_DRAIN_GRACE_SECONDS"]) < pod["terminationGracePeriodSeconds"]
