"""Docker and Podman for tests: containers that end with the test, and the Makefile of the runner.

Finds an engine or says why there is none; knows nothing of what the containers do.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

import psutil

EngineKind = Literal["docker", "podman"]
ENGINE_KINDS: Final[tuple[EngineKind, ...]] = ("docker", "podman")

REPOSITORY: Final = Path(__file__).resolve().parents[2]
SERVICE: Final = REPOSITORY / "backend/services/agent-runner"
COMMAND_TIMEOUT_SECONDS: Final = 120.0
BUILD_TIMEOUT_SECONDS: Final = 900.0
POLL_SECONDS: Final = 0.1
CHUNK_BYTES: Final = 1 << 20

TEST_IMAGE: Final = "localhost/stigmer-tests/agent-runner"
TEST_VERSION: Final = "0.0.0-tests"
BUILD_SECRET_MARK: Final = "stigmer-tests: this must stay outside of the image"
"""Stands in the authorities that the image under test is built with."""

OUTSIDE_OF_MAKE: Final = {"MAKEFLAGS": "", "MFLAGS": "", "MAKELEVEL": ""}
"""For a `make` that a test starts: it is not part of the one that the tests may have been started by."""

LOCKED_DOWN: Final = (
    "--read-only",
    "--tmpfs=/tmp:size=64m",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=3840",
)
"""How the runner is meant to be started."""


class Container:
    """One container; removed when the test ends."""

    def __init__(self, engine: "Engine", name: str) -> None:
        self._engine = engine
        self.name = name

    def inspect(self) -> dict[str, Any]:
        """What the engine knows of it."""
        return json.loads(self._engine.output("container", "inspect", self.name))[0]

    def memory_bytes(self) -> int:
        """What its processes hold, shared pages counted by share."""
        first = psutil.Process(self.inspect()["State"]["Pid"])
        processes = [first, *first.children(recursive=True)]
        return sum(process.memory_full_info().pss for process in processes)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        return self._engine.call("exec", self.name, *command, check=check)

    def output(self, *command: str) -> str:
        """What a command in it says, without the last line's end."""
        return self.run(*command).stdout.rstrip("\n")

    def logs(self) -> str:
        """All that its processes said."""
        logs = self._engine.call("logs", self.name)
        return logs.stdout + logs.stderr

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._engine.call("kill", self.name)

    def stop(self) -> int:
        """Ask it to end.

        Returns:
            Its exit code; 137 where it had to be killed.
        """
        self._engine.call("stop", "--time", "30", self.name)
        return int(self.inspect()["State"]["ExitCode"])

    def remove(self) -> None:
        """With its anonymous volumes."""
        self._engine.call("rm", "--force", "--volumes", self.name, check=False)

    def ask_health(self) -> tuple[bool, str]:
        """Ask the runner itself: ready or not, and why not."""
        answer = self.run("agent-runner", "health", check=False)
        return answer.returncode == 0, answer.stdout + answer.stderr

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Wait until the runner says that it is ready."""
        wait_until(lambda: self.ask_health()[0], seconds, lambda: f"{self.ask_health()[1]}\n{self.logs()}")

    def health_status(self) -> str:
        """What the engine holds of its health, after a check where the engine makes none by itself."""
        if self._engine.kind == "podman":  # without systemd it never checks (Podman 4.3)
            self._engine.call("healthcheck", "run", self.name, check=False)
        return self._health()["Status"]

    def last_health_output(self) -> str:
        """What the last health check said."""
        return self._health()["Log"][-1]["Output"]

    def _health(self) -> dict[str, Any]:
        state = self.inspect()["State"]
        return state.get("Health") or state["Healthcheck"]


def write_marked_authorities(directory: Path) -> Path:
    """The authorities that this machine trusts, with a mark by which they would be found again."""
    trusted = Path(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt")
    bundle = directory / "ca.crt"
    bundle.write_text(f"# {BUILD_SECRET_MARK}\n{trusted.read_text(encoding='utf-8')}", encoding="utf-8")
    return bundle


class Engine:
    """One of the two, as its command line."""

    def __init__(self, kind: EngineKind) -> None:
        self.kind: EngineKind = kind

    def why_not(self) -> str | None:
        """Why it cannot be used here, or None."""
        if shutil.which(self.kind) is None:
            return f"{self.kind} is not installed"
        answer = subprocess.run([self.kind, "info"], capture_output=True, text=True, timeout=60, check=False)
        return None if answer.returncode == 0 else f"{self.kind} does not answer: {answer.stderr.strip()}"

    def call(
        self, *arguments: str, check: bool = True, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """One call; where it fails, the error holds what it said."""
        done = subprocess.run(
            [self.kind, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
            env=os.environ | dict(environment or {}),
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{self.kind} {arguments[0]} ended with {done.returncode}: {done.stderr}")
        return done

    def output(self, *arguments: str) -> str:
        """What a call says, without the last line's end."""
        return self.call(*arguments).stdout.rstrip("\n")

    def build(self, *arguments: str) -> None:
        """Build an image, by the client that has BuildKit."""
        script = '. "$0/image/engine.sh"; find_engine; exec env DOCKER_BUILDKIT=1 "$engine" build "$@"'
        done = subprocess.run(
            ["bash", "-c", script, str(SERVICE), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_SECONDS,
            env=os.environ | {"ENGINE": self.kind},
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(f"{self.kind} build ended with {done.returncode}: {done.stderr}")

    def forget_images(self, beginning: str) -> None:
        """Take away the names of images that begin so. Layers that other images or the builder hold stay."""
        listed = self.call("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}").stdout
        names: set[str] = set()
        for repository, tag, digest in (line.split() for line in listed.splitlines()):
            if repository.startswith(beginning):
                names.add(f"{repository}@{digest}" if tag == "<none>" else f"{repository}:{tag}")
        for name in sorted(names):
            self.call("rmi", name, check=False)

    def bridge_address(self) -> str:
        """Where this machine is seen from containers on the engine's own bridge."""
        name = "bridge" if self.kind == "docker" else "podman"
        [network] = json.loads(self.output("network", "inspect", name))
        [subnet, *_] = network["IPAM"]["Config"] if self.kind == "docker" else network["subnets"]
        return str(next(ip_network(subnet.get("Subnet") or subnet["subnet"]).hosts()))

    def container_named(self, name: str) -> Container:
        """A container that somebody else started."""
        return Container(self, name)

    @contextmanager
    def container(
        self,
        image: str,
        *options: str,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Generator[Container]:
        """A running container. Values of `environment` are passed by name."""
        name = f"stigmer-test-{uuid4().hex[:12]}"
        names = [f"--env={variable}" for variable in environment or {}]
        container = Container(self, name)
        try:
            self.call(
                "run", "--detach", "--name", name, *names, *options, image, *command, environment=environment
            )
            yield container
        finally:
            container.remove()

    def export(self, image: str, archive: Path) -> None:
        """Write an image's files into a tar archive, without running anything of it."""
        container = self.output("create", image, "none")
        try:
            self.call("export", "--output", str(archive), container)
        finally:
            self.call("rm", container)

    def image_holds(self, image: str, text: str) -> bool:
        """Whether a text stands anywhere in an image: its layers, its configuration, its history."""
        # Of an archive with uncompressed layers.
        options = [] if self.kind == "docker" else ["--quiet", "--format=docker-archive"]
        mark, rest, found = text.encode(), b"", False
        with subprocess.Popen([self.kind, "save", *options, image], stdout=subprocess.PIPE) as saved:
            assert saved.stdout is not None
            while piece := saved.stdout.read(CHUNK_BYTES):
                found = found or mark in rest + piece
                rest = piece[-len(mark) :]
        assert saved.returncode == 0
        return found or text in self.output("history", "--no-trunc", image)

    def run_once(self, image: str, command: str, *options: str) -> str:
        """What a shell command in a fresh container says; locked down, without network."""
        arguments = ("run", "--rm", "--network=none", *LOCKED_DOWN, *options, "--entrypoint=bash", image)
        return self.output(*arguments, "-c", command)

    def build_test_image(self, authorities: Path) -> str:
        """The image under test: `STIGMER_TEST_IMAGE`, or one built from this checkout.

        A second time it comes from the engine's cache, so that each suite can ask for it by itself.
        """
        given = os.environ.get("STIGMER_TEST_IMAGE")
        if given:
            return given
        self.make("build-image", f"IMAGE={TEST_IMAGE}", f"VERSION={TEST_VERSION}", f"CA_BUNDLE={authorities}")
        return f"{TEST_IMAGE}:{TEST_VERSION}"

    def make(
        self, *arguments: str, environment: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """`make` in the runner's folder, with this engine. What comes first has run where the tests run."""
        done = subprocess.run(
            ["make", "-o", "build", "-o", "check-types", *arguments],
            cwd=SERVICE,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_SECONDS,
            env=os.environ | OUTSIDE_OF_MAKE | {"ENGINE": self.kind} | dict(environment or {}),
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"make {arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
            )
        return done


def wait_until(is_so: Callable[[], bool], seconds: float, explain: Callable[[], str]) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: with the explanation of then.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so within {seconds:g} s: {explain()}")
        time.sleep(POLL_SECONDS)
