"""What is in the image and what is not, whatever runs in it."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from uuid import uuid4

import pytest

from container_engine import BUILD_SECRET_MARK, REPOSITORY, SERVICE, Engine

MAX_CONTEXT_BYTES = 3_000_000
"""Of which uv.lock takes nearly one; the rest is the packages that the runner is made of."""


def test_it_runs_as_stigmer_from_an_exec_form_entrypoint_with_a_health_check(
    engine: Engine, image: str
) -> None:
    configuration = json.loads(engine.output("image", "inspect", image))[0]
    assert configuration["Config"]["User"] == "1000:1000"
    assert configuration["Config"]["Entrypoint"] == ["agent-runner"]
    assert list(configuration["Config"]["Volumes"]) == ["/workspace"]
    health = configuration["Config"].get("Healthcheck") or configuration["Healthcheck"]
    assert health["Test"] == ["CMD", "agent-runner", "health"]
    assert engine.run_once(image, "id -un; id -u; id -g") == "stigmer\n1000\n1000"


def test_its_labels_say_where_it_comes_from(engine: Engine, image: str) -> None:
    labels = json.loads(engine.output("image", "inspect", image))[0]["Config"]["Labels"]
    prefix = "org.opencontainers.image."
    said = {name.removeprefix(prefix): value for name, value in labels.items() if name.startswith(prefix)}
    assert said["licenses"] == "Apache-2.0"
    assert said["version"] == image.rpartition(":")[2]
    assert said["source"].startswith("https://")
    assert len(said["revision"]) == 40
    assert said["created"].endswith("Z")


def test_what_agents_run_is_there_and_whole(engine: Engine, image: str) -> None:
    missing_libraries = r"""
        find /usr/*bin /usr/lib/git-core /usr/local /opt -type f \( -perm -1 -o -name '*.so*' \) -print0 |
            xargs -0 -n 50 ldd 2>/dev/null | grep 'not found' || true
    """
    assert engine.run_once(image, missing_libraries) == ""
    script = """
        set -e
        cd /tmp && bash --version >/dev/null && timeout 5 true && awk 'BEGIN {exit 0}' && flock /tmp/lock true
        git init -q repository && cd repository
        git -c user.name=a -c user.email=a@b.c commit -q --allow-empty -m one && git log --format=%s
        git gc -q && git clone -q . ../clone
        test -s /etc/ssl/certs/ca-certificates.crt
        python3 -c 'import bz2, ctypes, curses, lzma, readline, sqlite3'
        python3 -c 'import os, ssl; print(len(os.listdir(ssl.get_default_verify_paths().capath)) > 100)'
        python3 -m venv /tmp/venv && /tmp/venv/bin/python -m pip --version | cut -d' ' -f1
        find / -xdev -xtype l -path '/usr/*bin/*' 2>/dev/null || true
    """
    assert engine.run_once(image, script) == "one\nTrue\npip"


def test_what_only_some_settings_need_is_there(engine: Engine, image: str) -> None:
    traces = "from agent_runner.span_export import open_provider"
    opened = "open_provider('http://127.0.0.1:9', None, '1', str, replayed_mark='x').get_tracer('t')"
    script = f'/opt/agent-runner/bin/python -c "{traces}; print(bool({opened}))"'
    assert engine.run_once(image, script) == "True"


def test_nothing_of_the_build_is_left(engine: Engine, image: str) -> None:
    script = r"""
        for name in uv gcc apt-get dpkg perl strip pip; do command -v $name; done
        find / -xdev \( -name '*.pyi' -o -name .git -o -name uv.lock \) 2>/dev/null
        ls -A /tmp /var/cache /var/log
        ls /run/secrets/ca.crt /builder /target /source 2>/dev/null
        true
    """
    assert engine.run_once(image, script).split() == ["/tmp:", "/var/cache:", "/var/log:"]


def test_no_layer_and_no_step_of_the_history_holds_the_build_s_secret(engine: Engine, image: str) -> None:
    assert not engine.image_holds(image, BUILD_SECRET_MARK)
    assert engine.image_holds(image, "org.opencontainers.image.revision")


@pytest.mark.parametrize("user", ["4321:4321", "4321:0", "0:0"])
def test_it_works_as_any_user(engine: Engine, image: str, user: str) -> None:
    volume = f"stigmer-test-{uuid4().hex[:12]}"
    read = "cat /workspace/mine/file"
    script = f"mkdir /workspace/mine && echo kept > /workspace/mine/file && agent-runner --version && {read}"
    try:
        first = engine.run_once(image, script, f"--user={user}", f"--volume={volume}:/workspace")
        assert first.splitlines()[-1] == "kept"
        again = engine.run_once(image, read, f"--user={user}", f"--volume={volume}:/workspace")
        assert again == "kept"
    finally:
        engine.call("volume", "rm", "--force", volume)


def test_users_of_one_volume_can_neither_list_nor_remove_each_others_directories(
    engine: Engine, image: str
) -> None:
    volume = f"stigmer-test-{uuid4().hex[:12]}"
    options = f"--volume={volume}:/workspace"
    try:
        engine.run_once(image, "mkdir -m 0700 /workspace/secret-name", "--user=1111:1111", options)
        script = (
            "ls /workspace; rm -rf /workspace/secret-name; cd /; test -d /workspace/secret-name && echo there"
        )
        assert engine.run_once(image, script, "--user=2222:2222", options) == "there"
    finally:
        engine.call("volume", "rm", "--force", volume)


def test_a_scanner_finds_the_packages(engine: Engine, image: str) -> None:
    packages = engine.run_once(
        image,
        "sed -n 's/^Package: //p' /var/lib/dpkg/status; ls /opt/agent-runner/lib/python3*/site-packages",
    )
    names = packages.split()
    assert {"bash", "git", "libc6", "libssl3"} <= {name.removesuffix("t64") for name in names}
    assert any(name.startswith("temporalio-") and name.endswith(".dist-info") for name in names)


def test_the_licences_of_what_is_in_it_are_in_it(engine: Engine, image: str) -> None:
    script = """
        sed -n 2p /opt/agent-runner/LICENSE
        ls /usr/share/doc/*/copyright | wc -l
        ls -d /usr/share/common-licenses
    """
    licence, count, common = engine.run_once(image, script).splitlines()
    assert licence.strip() == "Apache License"
    assert int(count) > 50
    assert common == "/usr/share/common-licenses"


def test_the_build_context_is_small_and_holds_no_more_than_the_build_needs(
    engine: Engine, tmp_path: Path
) -> None:
    """The ignore file is read as by the build: beside the Dockerfile, under the Dockerfile's name."""
    folder = tmp_path / "dockerfile"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY . /\n", encoding="utf-8")
    (folder / "Dockerfile.dockerignore").write_bytes((SERVICE / ".dockerignore").read_bytes())
    tag = f"localhost/stigmer-tests/context:{uuid4().hex[:12]}"
    options = [f"--ignorefile={SERVICE / '.dockerignore'}"] if engine.kind == "podman" else []
    engine.build("--tag", tag, *options, f"--file={folder / 'Dockerfile'}", str(REPOSITORY))
    try:
        files = files_of(engine, tag, tmp_path)
    finally:
        engine.call("rmi", tag)
    assert sum(files.values()) < MAX_CONTEXT_BYTES
    tops = {name.split("/")[0] for name in files}
    assert tops == {"LICENSE", "backend", "pyproject.toml", "uv.lock"}
    assert not [name for name in files if "__pycache__" in name or "/tests/" in name or "/docs/" in name]


def files_of(engine: Engine, tag: str, directory: Path) -> dict[str, int]:
    """The files of an image, with their sizes."""
    archive = directory / "image.tar"
    engine.export(tag, archive)
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.isfile()]
    made_by_engine = {".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"}
    return {member.name: member.size for member in members if member.name not in made_by_engine}


def test_the_ignore_file_has_the_name_that_builders_look_for() -> None:
    assert (SERVICE / "Dockerfile.dockerignore").resolve() == SERVICE / ".dockerignore"


def test_the_dockerfile_and_the_scripts_are_clean() -> None:
    scripts = [*SERVICE.glob("image/*.sh"), *SERVICE.glob("image/builder/*.sh"), REPOSITORY / ".ci/run"]
    for command in (
        [str(Path(sys.executable).with_name("hadolint")), str(SERVICE / "Dockerfile")],
        [
            str(Path(sys.executable).with_name("shellcheck")),
            "--external-sources",
            *(str(script) for script in scripts),
        ],
    ):
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "")
