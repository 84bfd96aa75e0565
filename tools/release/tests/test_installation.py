"""What a person gets who has no clone: the wheels of `make packages`, installed in one command."""

import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from other_person import other_person
from running_stack import plain_environment
from scratch_checkout import ScratchCheckout
from stigmer_release.python_packages import uv_program
from temporal_server import free_port

SECONDS: Final = 300
CLIENT_BYTES: Final = 40_000_000
WHOLE_BYTES: Final = 335_000_000
"""Both without bytecode. The whole was 334.8 million (2026-11-27): Temporal's binary 156, its SDK 52."""
UPSTREAM: Final = "stigmer==3.41.0"
"""Another project's distribution of the same name."""
MANIFEST: Final = """\
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {name: greeter}
spec: {instructions: Look around., tools: [shell]}
"""
CASSETTE: Final = """\
version: 1
agent: greeter
turns:
- text: I look around.
  toolCalls:
  - tool: run_command
    arguments: {command: id -un}
- text: Nobody but us here.
"""


@dataclass(frozen=True)
class Person:
    """Who installs: an ordinary user with an empty home, where root can make one."""

    home: Path
    prefix: list[str]
    environment: dict[str, str]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of the person's, with what was installed on its PATH."""
        return subprocess.run(
            [*self.prefix, *command],
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=SECONDS,
            check=False,
        )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> ScratchCheckout:
    """A clone with its packages built, as `make packages` builds them, but for the console."""
    checkout = ScratchCheckout(tmp_path_factory.mktemp("installation") / "checkout")
    checkout.release_tools("packages", "dist")
    return checkout


@contextmanager
def person_with(tmp_path: Path) -> Generator[Person]:
    """The person; ports that are free stand in the settings, and no engine is asked."""
    with other_person() if os.getuid() == 0 else _nobody_else() as other:
        home = other.home if other else tmp_path / "home"
        state = home / ".stigmer"
        state.mkdir(mode=0o700, parents=True)
        (state / "config.yaml").write_text(
            f"temporal: {{port: {free_port()}}}\nserver: {{port: {free_port()}}}\n"
            f"runner: {{healthPort: {free_port()}, engine: none}}\n",
            encoding="utf-8",
        )
        if other:
            for path in (state, state / "config.yaml"):
                shutil.chown(path, other.user_id, other.user_id)
        environment = plain_environment() | (other.environment if other else {"HOME": str(home)})
        environment["PATH"] = os.pathsep.join([str(home / "bin"), os.defpath])
        yield Person(home, other.prefix if other else [], environment)


@contextmanager
def _nobody_else() -> Generator[None]:
    yield None


def install(checkout: ScratchCheckout, target: Path, name: str, requirements: str) -> None:
    """`uv tool install`, from the directory of the wheels; and nothing is compiled."""
    [wheel] = (checkout.root / "dist").glob(f"{name.replace('-', '_')}-[0-9]*.whl")
    subprocess.run(
        [
            *(
                uv_program(checkout.root),
                "tool",
                "install",
                "--quiet",
                "--no-build",
                "--python",
                sys.executable,
            ),
            *("--with-requirements", requirements, f"./{wheel.name}"),
        ],
        cwd=checkout.root / "dist",
        env=os.environ | {"UV_TOOL_DIR": str(target / "tools"), "UV_TOOL_BIN_DIR": str(target / "bin")},
        capture_output=True,
        timeout=SECONDS,
        check=True,
    )


def size_bytes(folder: Path) -> int:
    """Of all files but bytecode, each once."""
    files = {path.stat().st_ino: path.stat().st_size for path in folder.rglob("*") if _is_content(path)}
    return sum(files.values())


def _is_content(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.suffix != ".pyc"


@pytest.mark.timeout(2 * SECONDS)
def test_an_ordinary_user_without_a_clone_runs_an_agent_in_two_commands(
    checkout: ScratchCheckout, tmp_path: Path
) -> None:
    with person_with(tmp_path) as person:
        (person.home / "greeter").mkdir()
        (person.home / "greeter/agent.yaml").write_text(MANIFEST, encoding="utf-8")
        (person.home / "cassette.yaml").write_text(CASSETTE, encoding="utf-8")

        install(checkout, person.home, "stigmer-agents", "requirements.txt")
        done = person.run("stigmer", "run", "greeter", "Who is here?", "--model", "replay:cassette.yaml")

        versions = person.run("stigmer", "version").stdout
        stopped = person.run("stigmer", "server", "stop")
        assert (done.returncode, done.stdout.strip()) == (0, "Nobody but us here."), done.stderr
        assert stopped.returncode == 0
        assert {path.name for path in (person.home / "bin").iterdir()} == {
            *("agent-runner", "stigmer", "stigmer-server")
        }
        assert "stigmer-server" in versions
        assert size_bytes(person.home / "tools") <= WHOLE_BYTES, size_bytes(person.home / "tools")


@pytest.mark.timeout(2 * SECONDS)
def test_the_client_alone_is_small_and_says_what_a_stack_would_need(
    checkout: ScratchCheckout, tmp_path: Path
) -> None:
    install(checkout, tmp_path, "stigmer-agents-client", "client-requirements.txt")
    alone = Person(tmp_path, [], plain_environment() | {"HOME": str(tmp_path), "PATH": str(tmp_path / "bin")})

    version = alone.run("stigmer", "version")
    started = alone.run("stigmer", "server", "start")

    assert version.returncode == 0, version.stderr
    assert (started.returncode, started.stderr.splitlines()) == (
        3,
        [
            "error: could not start the local stack: stigmer-server is not installed beside this stigmer",
            "",
            "hint: install the whole of Stigmer (docs/guides/installing.md), or name a server with "
            "STIGMER_BACKEND_ENDPOINT and STIGMER_TOKEN",
        ],
    )
    assert size_bytes(tmp_path / "tools") <= CLIENT_BYTES


WITHOUT_VERIFIER = """
from pathlib import Path
from stigmer_cli.config import load_configuration
from stigmer_cli.containers import ImageReference
from stigmer_cli.errors import ImageUntrusted
from stigmer_cli.runner import verification
configuration = load_configuration({"STIGMER_HOME": str(Path.cwd() / "home")})
digest = "sha256:" + "ab" * 32
reference = ImageReference("ghcr.io", "stigmer/agent-runner", tag="1.2.3", digest=digest)
verification.RELEASE_DIGEST = digest
print(verification.verify_image(reference, configuration, None).said)
try:
    verification.verify_present(reference, [digest], configuration, None)
except ImageUntrusted as error:
    print(error.message)
    print(error.hint)
"""


@pytest.mark.timeout(2 * SECONDS)
def test_what_needs_an_extra_says_which(checkout: ScratchCheckout, tmp_path: Path) -> None:
    install(checkout, tmp_path, "stigmer-agents", "requirements.txt")
    programs = tmp_path / "tools/stigmer-agents/bin"
    environment = plain_environment() | {"HOME": str(tmp_path), "PATH": os.defpath}

    def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=environment | variables,
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=SECONDS,
            check=False,
        )

    server = run(
        programs / "stigmer-server",
        *("--listen", f"127.0.0.1:{free_port()}"),
        STIGMER_HOME=str(tmp_path / "home"),
        STIGMER_TOKEN="t" * 32,
        STIGMER_DATABASE_URL="postgresql://somebody@localhost/none",
    )
    images = run(programs / "python", "-c", WITHOUT_VERIFIER)

    assert (server.returncode, server.stderr.splitlines()[-1]) == (
        3,
        "error: could not use PostgreSQL: asyncpg is not installed; install Stigmer with its extra "
        "`postgresql`",
    )
    image = f"ghcr.io/stigmer/agent-runner:1.2.3@sha256:{'ab' * 32}"
    assert images.stdout.splitlines() == [
        f"{image} is taken by its digest, which came with this stigmer; what checks signatures is not "
        "installed",
        f"could not verify the image '{image}': what checks signatures is not installed",
        "install stigmer with its extra `verify`, or pass `--verify off`",
    ]


@pytest.mark.timeout(2 * SECONDS)
def test_each_program_tells_its_own_version_beside_another_project_of_the_name(
    checkout: ScratchCheckout, tmp_path: Path
) -> None:
    install(checkout, tmp_path, "stigmer-agents", "requirements.txt")
    programs = tmp_path / "tools/stigmer-agents/bin"
    environment = plain_environment() | {"HOME": str(tmp_path), "PATH": os.defpath}
    told = {
        name: subprocess.run([programs / name, "--version"], env=environment, capture_output=True, check=True)
        for name in ("stigmer", "agent-runner")
    }

    subprocess.run(
        [
            *(uv_program(checkout.root), "pip", "install", "--quiet", "--no-deps"),
            *("--python", str(programs / "python"), UPSTREAM),
        ],
        env=os.environ,
        timeout=SECONDS,
        check=True,
    )

    for name, before in told.items():
        done = subprocess.run(
            [programs / name, "--version"], env=environment, capture_output=True, check=True
        )
        assert done.stdout == before.stdout
        assert b"3.41" not in done.stdout
