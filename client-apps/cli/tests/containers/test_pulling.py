"""Pulls from a real registry on loopback, and each way in which they fail."""

import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import pushed_runner
from needed import skip_outside_ci
from small_image import write_image_archive
from stigmer_cli.containers import Engine, EngineKind, ImageReference
from stigmer_cli.containers.credentials import Credentials
from stigmer_cli.containers.errors import (
    ImageError,
    ImageNotFound,
    RateLimited,
    RegistryDenied,
    RegistryUnreachable,
)
from stigmer_cli.containers.pulling import DownloadSeen, PullEvent, PullProgress, explain_pull_error
from stigmer_cli.containers.registry import describe_image

StartRegistry = Callable[..., str]
"""Starts a registry, with or without a login; answers its host and port."""


@pytest.fixture
def start_registry(tmp_path: Path) -> Iterator[StartRegistry]:
    """Starts docker-registry as often as it is called."""
    program = shutil.which("docker-registry")
    if program is None:
        skip_outside_ci("docker-registry is not installed")

    def start(login: Credentials | None = None) -> str:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
        folder = tmp_path / str(port)
        folder.mkdir()
        lines = ["version: 0.1", "storage:", "  filesystem:", f"    rootdirectory: {folder}/data"]
        lines += ["http:", f"  addr: 127.0.0.1:{port}", "log:", "  level: error"]
        if login is not None:
            hashed = subprocess.run(
                ["htpasswd", "-Bbn", login.username, login.password], capture_output=True, check=True
            ).stdout
            (folder / "htpasswd").write_bytes(hashed)
            lines += ["auth:", "  htpasswd:", "    realm: tests", f"    path: {folder}/htpasswd"]
        (folder / "config.yml").write_text("\n".join(lines) + "\n")
        process = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ends.callback(lambda: (process.kill(), process.wait()))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                continue
        return f"127.0.0.1:{port}"

    with ExitStack() as ends:
        yield start


@pytest.fixture
def push(engine: Engine, tmp_path: Path) -> Iterator[Callable[..., ImageReference]]:
    """Pushes an image of its own and forgets it, so that a pull has something to bring."""
    pushed: list[ImageReference] = []

    def forget(reference: ImageReference) -> None:
        if engine.images.find(str(reference)):
            engine.api.call("remove", "DELETE", f"/images/{reference}", query={"force": "true"})

    def push_to(registry: str, credentials: Credentials | None = None) -> ImageReference:
        reference = ImageReference(registry, "tests/pulled", "1")
        unlike_any_other = {"unlike": secrets.token_bytes(3_000_000)}
        engine.images.load(write_image_archive(tmp_path / "i.tar", str(reference), contents=unlike_any_other))
        pushed_runner.push(engine, reference, credentials)
        forget(reference)
        pushed.append(reference)
        return reference

    yield push_to
    for reference in pushed:
        forget(reference)


def _failure(engine: Engine, reference: ImageReference) -> ImageError:
    with pytest.raises(ImageError) as raised:
        engine.images.pull(reference, lambda event: None)
    assert raised.value.reference == str(reference)
    return raised.value


def test_an_image_is_pulled_and_its_size_is_known_before(
    engine: Engine, start_registry: StartRegistry, push: Callable[..., ImageReference]
) -> None:
    reference = push(start_registry())
    sizes = describe_image(reference, engine.traits.architecture, None, 10).layer_bytes
    assert len(sizes) == 1
    events: list[PullEvent | DownloadSeen] = []
    image = engine.images.pull(reference, events.append)
    assert image.tags == (str(reference),)
    assert [digest.rpartition("@")[0] for digest in image.digests if reference.name in digest]
    if engine.traits.kind is EngineKind.PODMAN:
        return  # from a registry on loopback it tells no layers
    progress = PullProgress(dict(sizes))
    for event in events:
        progress.add(event)
    assert progress.done_bytes == progress.total_bytes == sum(sizes.values())


def test_a_tag_that_is_not_there(
    engine: Engine, start_registry: StartRegistry, push: Callable[..., ImageReference]
) -> None:
    there = push(start_registry())
    failure = _failure(engine, ImageReference(there.registry, there.repository, "none"))
    assert (type(failure), failure.can_retry) == (ImageNotFound, False)


def test_a_registry_that_wants_a_login(
    engine: Engine, start_registry: StartRegistry, push: Callable[..., ImageReference]
) -> None:
    login = Credentials("", "person", "secret-of-the-test")
    registry = start_registry(login)
    login = Credentials(registry, login.username, login.password)
    reference = push(registry, login)
    failure = _failure(engine, reference)
    assert (type(failure), failure.can_retry) == (RegistryDenied, False)
    with pytest.raises(RegistryDenied):
        describe_image(reference, engine.traits.architecture, None, 10)
    assert describe_image(reference, engine.traits.architecture, login, 10).layer_bytes
    assert engine.images.pull(reference, lambda event: None, login).image_id
    assert login.password not in repr(login)


def test_a_registry_that_nobody_serves(engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    failure = _failure(engine, ImageReference(f"127.0.0.1:{port}", "tests/none", "1"))
    assert (type(failure), failure.can_retry) == (RegistryUnreachable, True)


def test_a_limit_of_the_registry_is_told_apart() -> None:
    said = "toomanyrequests: You have reached your pull rate limit."
    failure = explain_pull_error("docker.io/library/x:1", said)
    assert (type(failure), failure.can_retry, failure.said) == (RateLimited, True, said)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("python", "docker.io/library/python:latest"),
        ("ghcr.io/stigmer/agent-runner:1.2", "ghcr.io/stigmer/agent-runner:1.2"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
        (f"quay.io/a@sha256:{'0' * 64}", f"quay.io/a@sha256:{'0' * 64}"),
    ],
)
def test_references_are_read_as_docker_reads_them(text: str, meaning: str) -> None:
    assert str(ImageReference.parse(text)) == meaning
    with pytest.raises(ValueError, match="is not an image reference"):
        ImageReference.parse(text + "::")
