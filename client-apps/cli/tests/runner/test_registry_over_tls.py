"""A registry whose certificate a private authority signed: what is said, what is shown, and what helps."""

import re
import shutil
import socket
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import trustme

from faulty_registry import REPOSITORY, TAG, FaultyRegistry
from stack_home import StackHome, make_stack_home
from stigmer_cli.containers import Engine, EngineKind
from stigmer_cli.program_version import program_version
from tls_front import TlsFront

pytestmark = pytest.mark.timeout(600)

LABELS = {
    "org.opencontainers.image.title": "agent-runner",
    "org.opencontainers.image.version": program_version(),
}
CERTIFICATES = {EngineKind.DOCKER: "/etc/docker/certs.d", EngineKind.PODMAN: "/etc/containers/certs.d"}


def _own_address() -> str:
    """Of this machine and not its loopback, where engines speak plain HTTP."""
    of_all = [address for found in psutil.net_if_addrs().values() for address in found]
    return next(
        one.address
        for one in of_all
        if one.family == socket.AF_INET and not one.address.startswith(("127.", "169.254."))
    )


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[FaultyRegistry]:
    """A registry with a runner's image, over plain HTTP."""
    with FaultyRegistry(tmp_path / "registry", labels=LABELS) as registry:
        yield registry


@pytest.fixture
def authority() -> trustme.CA:
    """Which nobody knows."""
    return trustme.CA()


@pytest.fixture
def address(registry: FaultyRegistry, authority: trustme.CA) -> Iterator[str]:
    """Where it is reached over TLS."""
    host = _own_address()
    with TlsFront(int(registry.address.partition(":")[2]), authority, host) as front:
        yield f"{host}:{front.port}"


@pytest.fixture
def home(engine: Engine, address: str, tmp_path: Path) -> Iterator[StackHome]:
    """A home whose image is there; what is pulled is removed."""
    reference = f"{address}/{REPOSITORY}:{TAG}"
    home = make_stack_home(tmp_path / "home", own_temporal=False)
    home.environment |= {
        "STIGMER_ENGINE": engine.traits.kind.value,
        "STIGMER_AGENT_RUNNER_IMAGE": reference,
    }
    yield home
    if engine.images.find(reference):
        engine.api.call("remove", "DELETE", f"/images/{reference}", query={"force": "true"})


@contextmanager
def _trusted(home: StackHome, engine: Engine, authority: trustme.CA, address: str) -> Generator[None]:
    """By the command line, and by the engine: Podman's service of the command's own takes the bundle."""
    bundle = home.path.parent / "authorities.pem"
    authority.cert_pem.write_to_path(bundle)
    certificates = Path(CERTIFICATES[EngineKind.DOCKER], address)
    assert home.stigmer("config", "set", "caBundle", str(bundle)).returncode == 0
    if engine.traits.kind is EngineKind.DOCKER:
        certificates.mkdir(parents=True)
        shutil.copy(bundle, certificates / "ca.crt")
    try:
        yield
    finally:
        shutil.rmtree(certificates, ignore_errors=True)


def test_an_authority_that_is_not_known_is_said_and_with_its_certificate_the_image_comes(
    home: StackHome,
    engine: Engine,
    registry: FaultyRegistry,
    authority: trustme.CA,
    address: str,
) -> None:
    reference, kind = f"{address}/{REPOSITORY}:{TAG}", engine.traits.kind
    refused = home.stigmer("runner", "pull")

    with _trusted(home, engine, authority, address):
        trusting = home.stigmer("runner", "pull")

    error, hint = refused.stderr.splitlines()[-3], refused.stderr.splitlines()[-1]
    assert (refused.returncode, refused.stdout) == (3, "")
    assert error.startswith(
        f"error: could not get the image '{reference}': the registry's certificate is not trusted: "
    )
    assert hint.startswith(
        f"hint: give the certificate of its authority to {kind}, as {CERTIFICATES[kind]}/{address}/ca.crt, "
        "and to stigmer: `stigmer config set caBundle FILE`"
    )
    assert trusting.returncode == 0, trusting.stderr
    size = f"{registry.layer_bytes / 1e6:.1f} MB"
    title = engine.traits.title
    assert trusting.stderr.splitlines()[0] == f"pulling the runner's image {reference} ({size}) with {title}"
    assert trusting.stdout.startswith(f"{reference} sha256:")


def test_on_a_terminal_each_layer_shows_its_bytes(
    home: StackHome, engine: Engine, registry: FaultyRegistry, authority: trustme.CA, address: str
) -> None:
    registry.orders.bytes_per_second = 2_000_000  # Podman tells once a second
    with _trusted(home, engine, authority, address):
        code, text = home.stigmer_on_terminal("runner", "pull")

    assert code == 0, text[-300:]
    size = rf"{registry.layer_bytes / 1e6:.1f} MB"
    layer = re.escape(registry.layer[:12])
    assert re.search(rf"  {layer} +\S+ +[1-9]\.\d/{size}", text), text[-600:]


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_signatures_are_not_asked_for_where_the_certificate_is_not_trusted(home: StackHome) -> None:
    variables = {"STIGMER_SIGNER": "https://github.com/acme/*"}
    refused = home.stigmer("runner", "pull", variables=variables)

    assert refused.returncode == 3
    assert ": the registry's certificate is not trusted: " in refused.stderr.splitlines()[-3]


def test_a_bundle_without_a_certificate_is_refused(tmp_path: Path) -> None:
    bundle = tmp_path / "authorities.pem"
    bundle.write_text("no certificate", encoding="utf-8")
    home = make_stack_home(tmp_path / "home", own_temporal=False)

    refused = home.stigmer("config", "set", "caBundle", str(bundle))

    assert refused.returncode == 2
    assert f"'{bundle}' holds no certificate; write the authorities' in PEM" in refused.stderr
