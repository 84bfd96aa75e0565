"""What an agent's commands find in the image: programs, an identity for Git, a name, room for files."""

import os
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest

from container_engine import SERVICE, Engine
from fenced_blocks import fenced_blocks
from image_commands import run_as_agent

SOMEBODY = 4321
"""Whom neither the image nor this machine knows."""
AS_SOMEBODY = f"--user={SOMEBODY}:{SOMEBODY}"


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_what_the_guide_s_dockerfile_adds_an_agent_can_run(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    [text] = fenced_blocks(SERVICE / "docs/docker.md", "dockerfile")
    dockerfile, tag = tmp_path / "Dockerfile", f"localhost/stigmer-tests/mine:{uuid4().hex[:12]}"
    dockerfile.write_text(text.replace("ghcr.io/stigmer/agent-runner:dev-local", image), encoding="utf-8")
    arguments = ("--build-arg=PYTHON_IMAGE",) if "PYTHON_IMAGE" in os.environ else ()
    engine.build("--tag", tag, *arguments, f"--file={dockerfile}", str(tmp_path))
    try:
        assert (
            run_as_agent(
                engine, tag, "sqlite3 :memory: 'select 42'; echo 42 >n; zip -q z n; unzip -p z"
            ).split()
            == ["42"] * 2
        )
    finally:
        engine.call("rmi", tag)


def test_the_tools_that_models_take_for_granted_are_there_and_work(engine: Engine, image: str) -> None:
    script = r"""
        set -e
        for name in curl git jq less make patch ps rg ssh unzip; do command -v $name >/dev/null; done
        echo '{"a": [1, 2]}' | jq -c .a
        printf 'all: ; @echo made' >Makefile && make
        echo one >file && diff -u file <(echo two) >change || true
        patch -s file change && cat file
        python3 -c 'import zipfile; zipfile.ZipFile("z.zip", "w").writestr("inside", "zipped")'
        unzip -q z.zip && cat inside && echo
        rg --no-filename 'zip.ed'
        curl --silent file://$PWD/file || curl --version >/dev/null
        less inside >/dev/null
        mkdir -p ~/.ssh && echo 'example.org ssh-ed25519 x' >~/.ssh/known_hosts
        ssh -o BatchMode=yes -v -G example.org | grep -q '^userknownhostsfile '
        uptime >/dev/null
    """
    assert run_as_agent(engine, image, script).splitlines()[:5] == [
        "[1,2]",
        "made",
        "two",
        "zipped",
        "zipped",
    ]


def test_git_commits_as_the_agent_unless_somebody_says_otherwise(engine: Engine, image: str) -> None:
    script = """
        set -e
        git init -q . && git commit -q --allow-empty -m one
        git config user.name Repository && git commit -q --allow-empty -m two
        GIT_AUTHOR_NAME=Manifest GIT_AUTHOR_EMAIL=m@example.org git commit -q --allow-empty -m three
        git log --reverse --format='%an <%ae>'
    """
    assert run_as_agent(engine, image, script, AS_SOMEBODY).splitlines() == [
        "Stigmer <agent@localhost>",
        "Repository <agent@localhost>",
        "Manifest <m@example.org>",
    ]


def test_a_repository_of_another_owner_can_be_worked_with(engine: Engine, image: str, tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root gives files to others")
    repository = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    for path in (repository, *repository.rglob("*")):
        os.chown(path, 1234, 1234)
        path.chmod(0o777)
    mounted = f"--volume={repository}:/srv/repository"
    script = "git status --short --branch && git commit -q --allow-empty -m one && git log --format=%an"
    said = run_as_agent(engine, image, script, AS_SOMEBODY, mounted, directory="/srv/repository")
    assert said.splitlines()[-1] == "Stigmer"


def test_a_user_without_a_name_has_one(engine: Engine, image: str) -> None:
    script = """
        id -un && id -gn && ssh -G example.org | grep '^user '
        python3 -c 'import getpass, pwd, os; print(pwd.getpwuid(os.getuid()).pw_name)'
    """
    name = "agent" if engine.kind == "docker" else str(SOMEBODY)  # as Podman itself calls them
    said = run_as_agent(engine, image, script, AS_SOMEBODY).split()
    assert said == [name, name, "user", name, name]
    assert run_as_agent(engine, image, "id -un").split() == ["stigmer"]


def test_temporary_files_can_be_executed_and_be_larger_than_the_container_s_own(
    engine: Engine, image: str
) -> None:
    script = """
        set -e
        printf '#!/bin/sh\necho executed' >"$TMPDIR/program"
        chmod +x "$TMPDIR/program" && "$TMPDIR/program"
        head -c 100000000 /dev/zero >"$TMPDIR/large" && stat -c %s "$TMPDIR/large"
    """
    volume = f"stigmer-test-{uuid4().hex[:12]}"
    options = (AS_SOMEBODY, f"--volume={volume}:/workspace")
    try:
        said = run_as_agent(engine, image, script, *options)
        left = "find /workspace/.temporary-$(id -u) -mindepth 1"
        assert (said.split(), engine.run_once(image, left, *options)) == (["executed", "100000000"], "")
    finally:
        engine.call("volume", "rm", "--force", volume)


def test_a_directory_of_several_people_is_reached_by_their_group(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root gives files to others")
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, 0, 5555)
    shared.chmod(0o2770)
    options = (AS_SOMEBODY, "--group-add=5555", f"--volume={shared}:/srv/shared")
    run_as_agent(engine, image, "echo kept >file", *options, directory="/srv/shared")
    assert ((shared / "file").read_text(), (shared / "file").stat().st_gid) == ("kept\n", 5555)
