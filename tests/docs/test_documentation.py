"""What README and docs say is true: commands run, manifests and cassettes load, links lead somewhere.

The reference pages are those that the code of now would give.
"""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from model_server import VALID_KEY, ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from needed import skip_outside_ci
from postgres_server import PostgresServer, find_postgres_binaries
from running_stack import plain_environment
from stigmer_cli.config import load_configuration
from stigmer_contract.cassette import load_cassette
from stigmer_contract.manifest_reader import read_manifests
from stigmer_release.packages import PACKAGES
from temporal_server import free_port

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("**/*.md")),
]
TIMEOUT_SECONDS = 400
PORTS_IN_GUIDES = ("17233", "17234", "17235")
DATABASE_IN_GUIDES = "postgresql://stigmer:secret@localhost/stigmer"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    """What follows the backticks; `sh` alone means that a test runs it."""
    text: str


def blocks_of(page: Path) -> Iterator[Block]:
    """The page's fenced blocks, in order."""
    for match in re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", page.read_text(encoding="utf-8"), re.MULTILINE):
        yield Block(match[1].strip(), match[2])


def relative(page: Path) -> str:
    """How a failure names the page."""
    return page.relative_to(ROOT).as_posix()


RUNNABLE = [
    page
    for page in PAGES
    if "examples" not in page.parts and any(block.language == "sh" for block in blocks_of(page))
]


def test_the_reference_pages_are_current() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )

    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]

    missing = [
        target for target in targets if target and "://" not in target and not (page.parent / target).exists()
    ]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_manifests_and_cassettes_of_a_page_load(page: Path) -> None:
    for block in blocks_of(page):
        if block.language == "yaml" and block.text.startswith("apiVersion:"):
            read_manifests(block.text, page.name)
        elif block.language == "yaml" and block.text.startswith("version:"):
            load_cassette(block.text)


# --- commands ---------------------------------------------------------------------------------


@pytest.fixture
def model() -> Generator[ModelServer]:
    """A model that looks around once, and then answers."""
    turns = [
        ScriptedTurn("I look at what is there.", calls=[ScriptedCall("run_command", {"command": "ls"})]),
        ScriptedTurn("There is something to read."),
    ]
    with ModelServer(ScriptedModel(turns)) as server:
        yield server


@pytest.fixture
def environment(tmp_path: Path, model: ModelServer) -> Generator[dict[str, str]]:
    """A person's environment with a model, and a stack of its own that is stopped at the end."""
    temporal, server, health = (str(free_port()) for _ in range(3))
    home = tmp_path / "home"
    home.mkdir()
    configuration = (
        f"temporal: {{port: {temporal}}}\nserver: {{port: {server}}}\nrunner: {{healthPort: {health}}}\n"
    )
    (home / "config.yaml").write_text(configuration, encoding="utf-8")
    person = plain_environment() | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "STIGMER_HOME": str(home),
        "STIGMER_ENGINE": "none",  # the guides speak of no engine, and no test pulls from the internet
        "STIGMER_LLM_PROVIDER": "openai",
        "STIGMER_LLM_MODEL": "gpt-5",
        "STIGMER_LLM_BASE_URL": f"{model.url}/v1",
        "STIGMER_LLM_API_KEY": VALID_KEY,
    }
    yield person
    subprocess.run(["stigmer", "server", "stop"], env=person, capture_output=True, timeout=60, check=True)


@pytest.fixture
def database_url(page: Path) -> Generator[str]:
    """A PostgreSQL database, for a page that has one."""
    if DATABASE_IN_GUIDES not in page.read_text(encoding="utf-8"):
        yield DATABASE_IN_GUIDES
        return
    binaries = find_postgres_binaries()
    if binaries is None:
        skip_outside_ci("PostgreSQL is not installed")
    with PostgresServer(binaries) as server:
        yield asyncio.run(server.create_database())


@pytest.mark.timeout(TIMEOUT_SECONDS + 100)
@pytest.mark.parametrize("page", RUNNABLE, ids=relative)
def test_commands_of_a_page_run_in_order(
    page: Path, tmp_path: Path, environment: dict[str, str], database_url: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    script = "\n".join(f"set -x\n{block.text}" for block in blocks_of(page) if block.language == "sh")
    script = script.replace(DATABASE_IN_GUIDES, database_url)
    for port in PORTS_IN_GUIDES:
        script = script.replace(port, str(free_port()))

    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_SECONDS,
        check=False,
    )

    assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}"


def test_recipes_of_providers_are_configurations_that_can_be_read(tmp_path: Path) -> None:
    blocks = [
        block.text for block in blocks_of(ROOT / "docs/guides/providers.md") if block.language == "yaml"
    ]
    names: list[str] = []
    for block in blocks:
        (tmp_path / "config.yaml").write_text(block, encoding="utf-8")
        configuration = load_configuration({"STIGMER_HOME": str(tmp_path)})
        names += [endpoint.name for endpoint in configuration.model_endpoints]

    assert len(names) == len(set(names)) == 9


def test_commands_that_are_not_run_say_so() -> None:
    excuses = {"sh", "sh not-tested-here"}

    found = {block.language for page in PAGES for block in blocks_of(page) if block.language.startswith("sh")}

    assert found <= excuses


# --- installing -------------------------------------------------------------------------------

OUR_NAMES = {"stigmer", *PACKAGES}
INSTALLS = re.compile(
    r"\b(?:pip3? install|uv pip install|uv tool (?:install|run)|uvx|uv add|pipx (?:install|run)|poetry add"
    r"|pip3? download)\b([^`\n]*)"
)


def installed_by_name(text: str) -> list[str]:
    """Commands that would get a package of ours by its name, from whoever has that name in an index."""
    found: list[str] = []
    for match in INSTALLS.finditer(text):
        words = (re.split(r"[\[=<>~!@;]", word.strip("\"'"), maxsplit=1)[0] for word in match[1].split())
        if OUR_NAMES & {word.lower().replace("_", "-") for word in words}:
            found.append(match[0])
    return found


def test_no_page_and_no_message_installs_ours_from_an_index() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", "*.md", "*/src/*.py", "examples/*.py", "*.toml", "*.yml", "Makefile"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout
    files = [ROOT / name for name in listed.split("\0") if name]

    found = {
        relative(file): commands
        for file in files
        if (commands := installed_by_name(file.read_text(encoding="utf-8")))
    }

    assert found == {}


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("pip install stigmer-agents", True),
        ("`uv tool install 'stigmer-agents[verify]==1.2.3'`", True),
        ("pipx install stigmer_agents", True),
        ("pip install --upgrade stigmer", True),
        ("uvx stigmer run", True),
        ("uv tool install --with-requirements requirements.txt ./stigmer_agents-*.whl", False),
        ("pip install dist/stigmer_contract-1.2.3-py3-none-any.whl", False),
        ("pip install uv==0.13.9", False),
    ],
)
def test_an_install_from_an_index_is_known_by_its_words(text: str, is_found: bool) -> None:
    assert bool(installed_by_name(text)) == is_found
