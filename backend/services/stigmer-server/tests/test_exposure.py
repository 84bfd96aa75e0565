"""What the server asks for before others can reach it, and TLS with those who call it."""

import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme

from server_process import NOWHERE, RUNNER_TOKEN, TOKEN, ServerProcess
from temporal_server import free_port

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what the server is to refuse
LONG_TOKEN = "0123456789abcdef"
PLAIN_VARIABLES = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


@dataclass(frozen=True)
class Certificate:
    """Files of a server's certificate, and of the authority that signed it."""

    chain: Path
    key: Path
    authority: Path

    @property
    def variables(self) -> dict[str, str]:
        """What the server is told."""
        return {"STIGMER_TLS_CERT_FILE": str(self.chain), "STIGMER_TLS_KEY_FILE": str(self.key)}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for 127.0.0.1 of an authority that nobody else trusts."""
    folder = tmp_path_factory.mktemp("certificate")
    files = Certificate(folder / "chain.pem", folder / "key.pem", folder / "authority.pem")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(files.authority))
    issued.private_key_pem.write_to_path(str(files.key))
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(files.chain), append=True)
    return files


@pytest.fixture(scope="module")
def tls_server(
    certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Generator[ServerProcess]:
    """A server that speaks TLS."""
    home = tmp_path_factory.mktemp("tls")
    with ServerProcess(home, environment=certificate.variables, ca_bundle=certificate.authority) as process:
        yield process


def refusal(tmp_path: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """How a server that does not start ends, and what it says."""
    ended = subprocess.run(
        [sys.executable, "-m", "stigmer_server", *arguments],
        env=PLAIN_VARIABLES | {"STIGMER_HOME": str(tmp_path), "STIGMER_TOKEN": LONG_TOKEN} | variables,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stderr


PLAINTEXT_REFUSED = (
    "error: STIGMER_HOST: {host!r} is beyond loopback, where tokens and prompts would be readable without "
    "TLS; set STIGMER_TLS_CERT_FILE and STIGMER_TLS_KEY_FILE, or, behind a proxy that speaks TLS or on a "
    "network of containers alone, STIGMER_ALLOW_PLAINTEXT=true\n"
)


@pytest.mark.parametrize(
    ("argument", "host"),
    [
        (f"{EVERYWHERE}:0", EVERYWHERE),
        ("[::]:0", "::"),
        ("192.0.2.1:7234", "192.0.2.1"),
        ("db.example:1", "db.example"),
    ],
)
def test_beyond_loopback_without_tls_is_refused_with_one_line(
    tmp_path: Path, argument: str, host: str
) -> None:
    assert refusal(tmp_path, "--listen", argument) == (2, PLAINTEXT_REFUSED.format(host=host))


def test_a_variable_is_refused_like_the_flag(tmp_path: Path) -> None:
    assert refusal(tmp_path, STIGMER_HOST=EVERYWHERE) == (2, PLAINTEXT_REFUSED.format(host=EVERYWHERE))


@pytest.mark.parametrize("variables", [{"STIGMER_ALLOW_PLAINTEXT": "true"}, {}], ids=["plaintext", "tls"])
def test_beyond_loopback_a_token_that_can_be_guessed_is_refused(
    tmp_path: Path, certificate: Certificate, variables: dict[str, str]
) -> None:
    ended = refusal(
        tmp_path, STIGMER_HOST=EVERYWHERE, STIGMER_TOKEN="short", **(variables or certificate.variables)
    )

    assert ended == (
        2,
        "error: STIGMER_TOKEN: has fewer than 16 characters, which is too few beyond loopback; take a "
        "random one, such as that of `openssl rand -hex 32`\n",
    )


@pytest.mark.parametrize(
    "arguments", [["--listen"], ["--listen", "7234"], ["--port", "1"], ["--listen=a:1", "b"]]
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str]) -> None:
    said = f"error: {' '.join(arguments)!r} is not understood; write --listen HOST:PORT, or nothing\n"

    assert refusal(tmp_path, *arguments) == (2, said)


def test_half_a_certificate_is_refused(tmp_path: Path, certificate: Certificate) -> None:
    ended = refusal(tmp_path, STIGMER_TLS_CERT_FILE=str(certificate.chain))

    assert ended == (
        2,
        "error: STIGMER_TLS_KEY_FILE: is not set; the certificate and its key go together\n",
    )


def test_a_certificate_that_is_none_is_refused(tmp_path: Path, certificate: Certificate) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("not a certificate", encoding="utf-8")
    variables = certificate.variables | {"STIGMER_TLS_CERT_FILE": str(broken), "STIGMER_PORT": "0"}

    exit_code, said = refusal(tmp_path, **variables)

    assert exit_code == 2
    assert said.count("\n") == 1
    assert said.startswith(f"error: STIGMER_TLS_CERT_FILE: could not use {str(broken)!r} with its key: ")


def test_with_its_opt_out_a_server_listens_beyond_loopback_and_says_what_that_means(tmp_path: Path) -> None:
    environment = {
        "STIGMER_HOST": EVERYWHERE,
        "STIGMER_ALLOW_PLAINTEXT": "true",
        "STIGMER_TOKEN": LONG_TOKEN,
    }
    with ServerProcess(tmp_path, environment=environment) as server:
        said = server.log_file.read_text(encoding="utf-8")

    assert "STIGMER_ALLOW_PLAINTEXT: whoever is on the network can read tokens and prompts" in said


def test_a_server_with_a_certificate_speaks_tls_and_nothing_else(
    tls_server: ServerProcess, certificate: Certificate
) -> None:
    trusting = ssl.create_default_context(cafile=certificate.authority)
    headers = {"Authorization": f"Bearer {TOKEN}"}

    answer = httpx.get(f"{tls_server.url}/v1/agents", headers=headers, verify=trusting, trust_env=False)

    assert answer.status_code == 200
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{tls_server.url}/v1/agents", headers=headers, trust_env=False)
    with pytest.raises(httpx.TransportError):
        httpx.get(tls_server.url.replace("https", "http"), trust_env=False)


@pytest.mark.parametrize("is_trusting", [True, False])
def test_the_command_line_trusts_the_authorities_that_it_is_told(
    tls_server: ServerProcess, certificate: Certificate, tmp_path: Path, is_trusting: bool
) -> None:
    environment = PLAIN_VARIABLES | {
        "STIGMER_HOME": str(tmp_path),
        "STIGMER_BACKEND_ENDPOINT": tls_server.url,
        "STIGMER_TOKEN": TOKEN,
    }
    if is_trusting:
        environment["STIGMER_CA_BUNDLE"] = str(certificate.authority)

    done = subprocess.run(
        [sys.executable, "-m", "stigmer_cli", "agents", "list", "--json"],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )

    if is_trusting:
        assert (done.returncode, done.stdout) == (0, "[]\n")
    else:
        assert done.returncode == 3
        assert done.stderr.startswith(f"error: could not reach the server at {tls_server.url}: ")
        assert "certificate" in done.stderr


def test_a_runner_reaches_a_server_over_tls(
    tls_server: ServerProcess, certificate: Certificate, tmp_path: Path
) -> None:
    health = f"http://127.0.0.1:{(port := free_port())}/readyz"
    environment = PLAIN_VARIABLES | {
        "TEMPORAL_SERVICE_ADDRESS": NOWHERE,
        "STIGMER_BACKEND_ENDPOINT": tls_server.url,
        "STIGMER_TOKEN": RUNNER_TOKEN,
        "STIGMER_HEALTH_PORT": str(port),
        "SANDBOX_ROOT_DIR": str(tmp_path),
        "SSL_CERT_FILE": str(certificate.authority),
    }
    with (tmp_path / "runner.log").open("wb") as log:
        runner = subprocess.Popen([sys.executable, "-m", "agent_runner"], env=environment, stderr=log)
    try:
        checks = _checks(runner, health)
    finally:
        runner.kill()
        runner.wait()

    assert checks["server"] == {"name": "server", "ok": True, "detail": None}


def _checks(runner: "subprocess.Popen[bytes]", url: str) -> dict[str, dict[str, object]]:
    """What a runner says of its readiness, as soon as it answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert runner.poll() is None, "the runner ended"
        try:
            answer = httpx.get(url, trust_env=False)
            return {check["name"]: check for check in json.loads(answer.text)["checks"]}
        except httpx.ConnectError:
            time.sleep(0.05)
    raise AssertionError("the runner did not answer")
