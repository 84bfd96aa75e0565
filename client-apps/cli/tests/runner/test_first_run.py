"""The first run brings the image: what is said meanwhile, and what of each way in which it fails."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from faulty_registry import FaultyRegistry
from stack_home import StackHome, make_stack_home
from stigmer_cli.containers import Engine, EngineKind
from stigmer_cli.program_version import program_version

pytestmark = pytest.mark.timeout(600)

LABELS = {
    "org.opencontainers.image.title": "agent-runner",
    "org.opencontainers.image.version": program_version(),
}
WITHOUT = (
    "; or run it without a container: `stigmer server start --native`, or STIGMER_ENGINE=none for one command"
)


@pytest.fixture
def registry(engine: Engine, tmp_path: Path) -> Iterator[FaultyRegistry]:
    """A registry with a runner's image, of which the engine keeps nothing."""
    with FaultyRegistry(tmp_path / "registry", labels=LABELS) as registry:
        yield registry
        if engine.images.find(registry.reference):
            engine.api.call("remove", "DELETE", f"/images/{registry.reference}", query={"force": "true"})


@pytest.fixture
def home(registry: FaultyRegistry, engine: Engine, tmp_path: Path) -> StackHome:
    """A home whose image is in that registry. Nothing of it is started."""
    home = make_stack_home(tmp_path / "home", own_temporal=True)
    home.environment |= {
        "STIGMER_ENGINE": engine.traits.kind.value,
        "STIGMER_AGENT_RUNNER_IMAGE": registry.reference,
    }
    return home


def _failure(home: StackHome, registry: FaultyRegistry) -> tuple[int, str, str, str]:
    """Exit code, the error without what engine and registry say, all of the error, the hint."""
    completed = home.stigmer("runner", "pull")
    assert completed.stdout == ""
    error = next(line for line in completed.stderr.splitlines() if line.startswith("error: "))
    start = re.match(rf"error: could not get the image '{registry.reference}': [^:]*", error)
    assert start is not None, error
    hint = completed.stderr.splitlines()[-1].removeprefix("hint: ")
    return completed.returncode, start[0].rpartition(": ")[2], error, hint


def test_what_happens_is_said_with_its_size_and_then_how_it_goes(
    home: StackHome, registry: FaultyRegistry, engine: Engine
) -> None:
    registry.orders.bytes_per_second = 3_000_000
    completed = home.stigmer("runner", "pull")
    assert completed.returncode == 0, completed.stderr
    first, verified, *progress = completed.stderr.splitlines()
    size = f"{registry.layer_bytes / 1e6:.1f} MB"
    title = engine.traits.title
    assert first == f"pulling the runner's image {registry.reference} ({size}) with {title}"
    assert verified == (
        f"{registry.reference} is not verified: it is not Stigmer's own, and `runner.signer` is not set"
    )
    line = rf"\d+\.\d MB of {size} \(\d+%\), \d+\.\d MB/s(, \d+ s left)?"
    assert progress
    assert [text for text in progress if not re.fullmatch(line, text)] == []
    image = engine.images.find(registry.reference)
    assert image is not None
    assert completed.stdout == f"{registry.reference} {image.digests[0].rpartition('@')[2]}\n"


def test_on_a_terminal_a_bar_shows_bytes(home: StackHome, registry: FaultyRegistry, engine: Engine) -> None:
    registry.orders.bytes_per_second = 3_000_000
    code, text = home.stigmer_on_terminal("runner", "pull")
    assert code == 0, text[-300:]
    assert re.search(r"image +\S+ \d\.\d/\d\.\d MB \d\.\d MB/s 0:00:", text), text[-300:]
    if engine.traits.kind is EngineKind.DOCKER:  # Podman tells no layers apart where it speaks plain HTTP
        assert re.search(r"  [0-9a-f]{12} ", text), text[-300:]


def test_quiet_says_nothing(home: StackHome) -> None:
    completed = home.stigmer("runner", "pull", "--quiet")
    assert (completed.returncode, completed.stderr) == (0, "")


def test_a_cut_connection_is_tried_again_and_goes_on(
    home: StackHome, registry: FaultyRegistry, engine: Engine
) -> None:
    registry.orders.cuts = 1
    completed = home.stigmer("runner", "pull")
    assert completed.returncode == 0, completed.stderr
    assert engine.images.find(registry.reference) is not None
    first, second = registry.seen.layer_starts
    assert first == 0
    if engine.traits.kind is EngineKind.DOCKER:  # it goes on in the middle of the layer, by itself
        assert second > 0
    else:  # 4.3 gives up, and takes the layer anew
        assert "the connection broke, trying again (2 of 5): " in completed.stderr


def test_a_registry_that_always_cuts_is_given_up(
    home: StackHome, registry: FaultyRegistry, engine: Engine
) -> None:
    if engine.traits.kind is EngineKind.DOCKER:
        # Docker's own five tries take 50 s and more for each of ours; its error is of the same kind.
        registry.orders.refusal = (503, "UNAVAILABLE")
    registry.orders.cuts = 1000
    code, problem, error, hint = _failure(home, registry)
    assert (code, problem) == (3, "the registry cannot be reached"), error
    assert hint == (
        "check the network and the proxy variables; where there is no registry, use "
        f"`stigmer server start --image-archive FILE`{WITHOUT}"
    )


def test_a_limit_is_told_apart(home: StackHome, registry: FaultyRegistry) -> None:
    registry.orders.refusal = (429, "TOOMANYREQUESTS")
    code, problem, error, hint = _failure(home, registry)
    assert (code, problem) == (3, "the registry limits how often it may be asked"), error
    assert hint == f"wait and try again, or log in to the registry, which mostly allows more{WITHOUT}"


def test_a_login_that_is_missing_is_asked_for(
    home: StackHome, registry: FaultyRegistry, engine: Engine
) -> None:
    registry.orders.login = ("person", "secret-of-the-test")
    code, problem, error, hint = _failure(home, registry)
    assert (code, problem) == (3, "the registry gives no access"), error
    assert hint == f"run `{engine.traits.kind} login {registry.address}`{WITHOUT}"


def test_a_version_that_is_not_there_is_not_found(home: StackHome, registry: FaultyRegistry) -> None:
    registry.manifests.clear()
    code, problem, error, hint = _failure(home, registry)
    assert (code, problem) == (3, "not found"), error
    assert hint == (
        f"build it with `make build-image` and pass --use-local-image, or set `runner.image`{WITHOUT}"
    )


def test_ctrl_c_leaves_nothing_half_made(home: StackHome, registry: FaultyRegistry, engine: Engine) -> None:
    registry.orders.stall = threading.Event()
    command = [sys.executable, "-m", "stigmer_cli", "server", "start"]
    process = subprocess.Popen(command, env=home.environment, stderr=subprocess.PIPE, text=True)
    assert registry.seen.stalled.wait(30)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    registry.orders.stall.set()
    assert engine.images.find(registry.reference) is None
    assert home.processes() == []
    assert {path.name for path in (home.path / "run").iterdir()} <= {"token", "runner-token", "change.lock"}
    registry.orders.stall = None
    assert home.stigmer("runner", "pull", "--quiet").returncode == 0
