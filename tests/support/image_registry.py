"""A real image registry on loopback that wants a password, and what is in it; for tests of pushing."""

import json
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from container_engine import Engine, EngineKind, wait_until
from temporal_server import free_port

USER: Final = "tester"
PASSWORD: Final = "correct-horse"
START_TIMEOUT_SECONDS: Final = 90.0
INDEX_TYPES: Final = ", ".join(
    [
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
    ]
)


class ImageRegistry:
    """Debian's docker-registry over plain HTTP, as a context manager.

    Names of images that begin with its address are gone from `engines` when it ends.

    Attributes:
        address: host:port.
        repository: a repository's name in it.
        environment: makes engines keep credentials in the test's own directory.
    """

    def __init__(self, directory: Path, *engines: EngineKind) -> None:
        self._engines = engines
        self._directory = directory
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"127.0.0.1:{self._port}"
        self.repository = f"{self.address}/stigmer/agent-runner"
        self.environment = {
            "DOCKER_CONFIG": str(directory / "docker"),
            "REGISTRY_AUTH_FILE": str(directory / "auth.json"),
        }
        self._client = httpx.Client(base_url=f"http://{self.address}/v2", auth=(USER, PASSWORD))

    def __enter__(self) -> Self:
        self._directory.mkdir()
        (self._directory / "docker").mkdir()
        users = self._directory / "htpasswd"
        command = ["htpasswd", "-Bbc", str(users), USER, PASSWORD]
        subprocess.run(command, check=True, capture_output=True)
        configuration = {
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(self._directory / "data")}},
            "http": {"addr": self.address},
            "auth": {"htpasswd": {"realm": "tests", "path": str(users)}},
        }
        file = self._directory / "config.yml"
        file.write_text(json.dumps(configuration), encoding="utf-8")  # JSON is YAML
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._answers, START_TIMEOUT_SECONDS, lambda: "the registry does not answer")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        self.end()
        for engine in self._engines:
            Engine(engine).forget_images(f"{self.address}/")

    def end(self) -> None:
        """Nobody answers any more; idempotent."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(START_TIMEOUT_SECONDS)

    def tags(self) -> set[str]:
        """All tags that were pushed."""
        return set(self._client.get("/stigmer/agent-runner/tags/list").raise_for_status().json()["tags"])

    def digest(self, tag: str) -> str:
        """What a tag points at."""
        return self._manifest(tag).headers["Docker-Content-Digest"]

    def platforms(self, tag: str) -> set[str]:
        """What an index has images for."""
        manifests: list[dict[str, Any]] = self._manifest(tag).json()["manifests"]
        return {f"{entry['platform']['os']}/{entry['platform']['architecture']}" for entry in manifests}

    @contextmanager
    def tagged(self, engine: Engine, image: str, version: str) -> Generator[str]:
        """An image under a name in this registry, not pushed yet; the names are gone afterwards."""
        reference = f"{self.repository}:{version}"
        engine.call("tag", image, reference)
        try:
            yield reference
        finally:
            engine.forget_images(f"{self.repository}")

    @contextmanager
    def pulled(self, engine: Engine, tag: str) -> Generator[str]:
        """An image fetched from here."""
        reference = f"{self.repository}:{tag}"
        flags = ["--tls-verify=false"] if engine.kind == "podman" else []
        engine.call("pull", *flags, reference, environment=self.environment)
        try:
            yield reference
        finally:
            engine.call("rmi", reference)

    def _manifest(self, tag: str) -> httpx.Response:
        path = f"/stigmer/agent-runner/manifests/{tag}"
        return self._client.get(path, headers={"Accept": INDEX_TYPES}).raise_for_status()

    def _answers(self) -> bool:
        try:
            return self._client.get("/").is_success
        except httpx.TransportError:
            return False
