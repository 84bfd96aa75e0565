"""docker-compose.yml at work, as the guide starts it: PostgreSQL, two runners, one of which is killed."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from container_engine import REPOSITORY, SERVICE, Engine, wait_until
from executions import agent_manifest
from fenced_blocks import fenced_blocks
from temporal_server import free_port

pytestmark = pytest.mark.parametrize("engine", ["docker"], indirect=True)

EXECUTION_SECONDS = 90.0

POSTGRES = """
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql >/dev/null
COPY start.sh /start.sh
ENV PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
    PGDATA=/var/lib/postgresql/data
ENTRYPOINT ["bash", "/start.sh"]
"""
POSTGRES_START = """
set -eu
as_postgres() { su postgres -s /bin/bash -c "PATH=$PATH; $1"; }
mkdir -p "$PGDATA" && chown postgres "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  echo "$POSTGRES_PASSWORD" >/tmp/password && chown postgres /tmp/password
  as_postgres "initdb -D $PGDATA -U $POSTGRES_USER --pwfile /tmp/password >/dev/null"
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  as_postgres "echo 'create database $POSTGRES_DB' | postgres --single -D $PGDATA postgres >/dev/null"
fi
exec su postgres -s /bin/bash -c "PATH=$PATH; exec postgres -D $PGDATA -c listen_addresses=*"
"""

TEMPORAL = """
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE}
COPY temporal /usr/local/bin/temporal
ENTRYPOINT ["temporal"]
"""


@pytest.fixture(scope="module")
def images(
    engine: Engine, image: str, marked_authorities: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Images for the names in the file: the published ones, or stand-ins where the base image is one."""
    prefix = f"localhost/stigmer-tests/compose-{uuid4().hex[:12]}"
    try:
        yield {"RUNNER_IMAGE": image} | build_images(
            engine, prefix, marked_authorities, tmp_path_factory.mktemp("stand-ins")
        )
    finally:
        engine.forget_images(prefix)


def build_images(engine: Engine, prefix: str, authorities: Path, directory: Path) -> dict[str, str]:
    """The server's image and, where the base image is a stand-in, PostgreSQL's and Temporal's."""
    own = {"SERVER_IMAGE": f"{prefix}/server:1.0.0"}
    base_images = [f"--build-arg={name}" for name in ("PYTHON_IMAGE", "UV_IMAGE") if name in os.environ]
    dockerfile = REPOSITORY / "backend/services/stigmer-server/Dockerfile"
    options = [f"--secret=id=ca,src={authorities}", *base_images, f"--file={dockerfile}"]
    engine.build(*options, "--tag", own["SERVER_IMAGE"], str(REPOSITORY))
    if not base_images:
        return own
    for name, dockerfile in (("postgres", POSTGRES), ("temporal", TEMPORAL)):
        context = directory / name
        context.mkdir()
        (context / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    (directory / "postgres/start.sh").write_text(POSTGRES_START, encoding="utf-8")
    shutil.copy(Path(sys.executable).with_name("temporal"), directory / "temporal/temporal")
    for name in ("postgres", "temporal"):
        own[f"{name.upper()}_IMAGE"] = tag = f"{prefix}/{name}:stand-in"
        engine.build("--build-arg=PYTHON_IMAGE", "--tag", tag, str(directory / name))
    return own


class Project:
    """One project of docker-compose.yml, with names and a port of its own; started and ended by the guide."""

    def __init__(self, home: Path, images: dict[str, str]) -> None:
        self.name = f"stigmer-test-{uuid4().hex[:12]}"
        self.endpoint = f"http://127.0.0.1:{(port := free_port())}"
        self._token_file = home / ".stigmer/compose/token"
        self._environment = images | {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COMPOSE_PROJECT_NAME": self.name,
            "STIGMER_TOKEN_FILE": str(self._token_file),
            "STIGMER_RUNNER_TOKEN_FILE": str(self._token_file.with_name("runner-token")),
            "STIGMER_PORT": str(port),
            "STIGMER_UID": str(os.getuid()),
            "STIGMER_GID": str(os.getgid()),
            "STIGMER_LLM_PROVIDER": "replay",
        }

    @property
    def token(self) -> str:
        """What the guide made."""
        return self._token_file.read_text(encoding="utf-8").strip()

    def follow_guide(self, commands: str) -> str:
        """Run commands of the guide. The images are there; `--wait` is newer than Debian's docker-compose."""
        for written, exchanged in {
            "docker compose": "docker-compose",
            " --build": " --no-build",
            " --wait": "",
            "http://localhost:7234": self.endpoint,
        }.items():
            commands = commands.replace(written, exchanged)
        return self.run("bash", "-euo", "pipefail", "-c", commands)

    def run(self, *command: str, check: bool = True) -> str:
        """One command at the repository's root."""
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=os.environ | self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if check and done.returncode != 0:
            logs = self.run("docker-compose", "logs", "--tail=20", check=False)
            raise AssertionError(f"{command}: {done.stdout}\n{done.stderr}\n{logs}")
        return done.stdout


@pytest.fixture
def project(images: dict[str, str], tmp_path: Path) -> Iterator[Project]:
    """All of it, running."""
    start, end = fenced_blocks(SERVICE / "docs/docker.md", "sh compose")
    project = Project(tmp_path, images)
    try:
        project.follow_guide(start)
        yield project
        project.follow_guide(end)
    finally:
        project.run("docker-compose", "down", "--volumes", "--timeout=20")


def test_a_project_runs_executions_also_when_one_of_its_runners_is_killed(
    engine: Engine, project: Project
) -> None:
    runners = [engine.container_named(f"{project.name}_runner-{number}_1") for number in (1, 2)]
    for container in runners:
        container.wait_until_ready()
    with httpx.Client(
        base_url=project.endpoint, headers={"Authorization": f"Bearer {project.token}"}, timeout=30
    ) as client:
        page = client.get("/console/")
        assert (page.status_code, "<script" in page.text) == (httpx.codes.OK, True), page.text
        complete(client, project)
        runners[0].kill()
        complete(client, project)
    tables = project.run("docker-compose", "exec", "-T", "postgresql", "psql", "--username=stigmer", "--list")
    assert "stigmer" in tables


def complete(client: httpx.Client, project: Project) -> None:
    """Start an execution, whose model is a recorded conversation with one command in it; wait for its end."""
    cassette = json.dumps(
        {
            "version": 1,
            "agent": "worker",
            "turns": [
                {
                    "toolCalls": [
                        {"tool": "run_command", "arguments": {"command": "echo done > file && cat file"}}
                    ]
                },
                {"text": "Done."},
            ],
        }
    ).encode()
    digest = hashlib.sha256(cassette).hexdigest()
    client.put(f"/v1/blobs/{digest}", content=cassette).raise_for_status()
    manifest = agent_manifest(model=f"replay:sha256:{digest}")
    answer = client.post("/v1/executions", json={"manifest": manifest, "input": "Do it."}).raise_for_status()
    path = f"/v1/executions/{answer.json()['execution_id']}"
    wait_until(
        lambda: client.get(path).raise_for_status().json()["phase"] == "completed",
        EXECUTION_SECONDS,
        lambda: f"{client.get(path).text}\n{project.run('docker-compose', 'logs', '--tail=20')}",
    )
