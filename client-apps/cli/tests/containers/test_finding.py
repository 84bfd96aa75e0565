"""Which engine is found, and what is said of one that cannot be used; each reason provoked for real."""

import http.server
import json
import os
import socket
import socketserver
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from stigmer_cli.containers import Engine, EngineKind, RunningContainer, find_engine
from stigmer_cli.containers.api import EngineApi
from stigmer_cli.containers.engine import read_traits
from stigmer_cli.containers.errors import (
    EngineAddressWrong,
    EngineNoPermission,
    EngineNotInstalled,
    EngineNotRunning,
    EngineRemote,
    EngineTooOld,
    EngineUnusable,
)
from stigmer_cli.containers.podman_machine import machine_sockets

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the texts are those of Linux")


def _program(directory: Path, name: str) -> str:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text("#!/bin/sh\nexit 1\n")
    (directory / name).chmod(0o755)
    return str(directory)


def _failure(
    environ: dict[str, str], service_directory: Path, wanted: EngineKind | None = None
) -> EngineUnusable:
    with pytest.raises(EngineUnusable) as raised:
        find_engine(environ, service_directory, wanted)
    return raised.value


def _docker_at(path: Path, **more: str) -> dict[str, str]:
    return {"PATH": "/nowhere", "HOME": "/nowhere", "DOCKER_HOST": f"unix://{path}", **more}


@contextmanager
def _engine_that_says(path: Path, headers: dict[str, str], body: bytes = b"OK") -> Generator[None]:
    class Handler(http.server.BaseHTTPRequestHandler):
        server_version, sys_version = headers.get("Server", "old"), ""

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            for name in headers.keys() - {"Server"}:
                self.send_header(name, headers[name])
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name of the base class
            """Says nothing."""

        def address_string(self) -> str:
            return "client"

    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("body", [b"null", b"", b"[]", b"{}"])
def test_a_container_that_ends_while_it_is_measured_uses_nothing(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "engine.sock"
    with _engine_that_says(path, {}, body):
        assert RunningContainer(EngineApi(str(path)), "0" * 64, "runner").usage(60) is None


def test_the_engine_says_what_it_is(engine: Engine) -> None:
    traits = engine.traits
    assert traits.version.split(".")[0].isdigit()
    assert (traits.is_rootless, traits.is_virtual) == (False, False)


def test_no_program_and_no_socket_is_not_installed(service_directory: Path) -> None:
    missing = service_directory / "docker.sock"
    failure = _failure(_docker_at(missing, CONTAINER_HOST=f"unix://{missing}"), service_directory)
    assert (type(failure), failure.engine, failure.reason) == (
        EngineNotInstalled,
        "Docker",
        f"there is no {missing}, which DOCKER_HOST names",
    )
    assert failure.remedy == "unset DOCKER_HOST, or name a socket of this machine"


def test_a_program_without_a_socket_is_not_running(service_directory: Path, tmp_path: Path) -> None:
    missing = service_directory / "docker.sock"
    environ = _docker_at(missing, PATH=_program(tmp_path / "bin", "docker"))
    failure = _failure(environ, service_directory, EngineKind.DOCKER)
    assert type(failure) is EngineNotRunning
    assert str(failure) == f"could not use Docker: it is installed, but there is no {missing}"
    assert failure.remedy == "run `sudo systemctl start docker`"


def test_a_socket_that_nobody_serves_is_not_running(service_directory: Path) -> None:
    path = service_directory / "docker.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    failure = _failure(_docker_at(path), service_directory, EngineKind.DOCKER)
    assert (type(failure), failure.reason) == (EngineNotRunning, f"nobody answers at {path}")


def test_a_podman_that_does_not_work_says_why(service_directory: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "podman"
    _program(tmp_path / "bin", "podman")
    program.write_text("#!/bin/sh\necho 'Error: no subuid ranges found' >&2\nexit 125\n")
    environ = {"PATH": str(program.parent), "HOME": "/nowhere", "XDG_RUNTIME_DIR": str(service_directory)}
    if os.geteuid() == 0 and Path("/run/podman/podman.sock").exists():
        pytest.skip("a Podman service serves this machine's root")
    failure = _failure(environ, service_directory, EngineKind.PODMAN)
    assert type(failure) is EngineNotRunning
    assert failure.reason == "it does not work: Error: no subuid ranges found"


def test_an_old_engine_is_told_by_its_version(service_directory: Path) -> None:
    path = service_directory / "docker.sock"
    with _engine_that_says(path, {"Server": "Docker/19.03.15 (linux)", "Api-Version": "1.40"}):
        failure = _failure(_docker_at(path), service_directory, EngineKind.DOCKER)
    assert type(failure) is EngineTooOld
    assert failure.reason == "version 19.03.15 speaks API 1.40, and 1.41 is needed"
    assert failure.remedy == "update Docker to 20.10 or newer"


@pytest.mark.parametrize("url", ["tcp://build.example:2376", "ssh://me@build.example"])
def test_an_engine_elsewhere_cannot_mount_what_is_here(service_directory: Path, url: str) -> None:
    environ = {"PATH": "/nowhere", "HOME": "/nowhere", "DOCKER_HOST": url}
    failure = _failure(environ, service_directory, EngineKind.DOCKER)
    assert type(failure) is EngineRemote
    scheme = url.partition(":")[0]
    assert failure.reason == (
        f"DOCKER_HOST names {scheme}://build.example, which is no socket of this machine, "
        "so directories cannot be mounted"
    )
    assert failure.remedy == "unset DOCKER_HOST, or name a socket of this machine"


@pytest.mark.parametrize(
    ("host", "remedy"),
    [
        ("/var/run/docker.sock", "write unix:///var/run/docker.sock"),
        ("unix://relative.sock", "write unix:///PATH, with its socket's path"),
        ("docker.example", "write unix:///PATH, with its socket's path"),
        ("tcp:", "write unix:///PATH, with its socket's path"),
        ("tcp://[::1", "write unix:///PATH, with its socket's path"),
    ],
)
def test_an_address_that_is_none_is_named(service_directory: Path, host: str, remedy: str) -> None:
    environ = {"PATH": "/nowhere", "HOME": "/nowhere", "DOCKER_HOST": host}
    failure = _failure(environ, service_directory)
    assert (type(failure), failure.remedy) == (EngineAddressWrong, remedy)
    assert failure.reason == f"DOCKER_HOST names {host!r}, which is no address"


def test_an_unknown_context_is_named(service_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "gone"}))
    environ = {"PATH": "/nowhere", "HOME": "/nowhere", "DOCKER_CONFIG": str(tmp_path)}
    by_variable = _failure(environ | {"DOCKER_CONTEXT": "other"}, service_directory)
    by_file = _failure(environ, service_directory)
    assert (type(by_variable), by_variable.reason, by_variable.remedy) == (
        EngineAddressWrong,
        "there is no Docker context 'other', which DOCKER_CONTEXT names",
        "see `docker context ls`, or unset DOCKER_CONTEXT",
    )
    assert (type(by_file), by_file.reason, by_file.remedy) == (
        EngineAddressWrong,
        "there is no Docker context 'gone', which Docker's configuration names",
        "see `docker context ls`, or run `docker context use default`",
    )


def test_another_engine_in_the_stead_of_the_named_one_is_said(
    service_directory: Path, tmp_path: Path
) -> None:
    path = service_directory / "podman.sock"
    answers = {"Server": "Libpod/4.3.1 (linux)", "Api-Version": "1.41"}
    with _engine_that_says(path, answers, b"{}"):
        environ = {"PATH": "/nowhere", "HOME": "/nowhere", "CONTAINER_HOST": f"unix://{path}"}
        named = find_engine(environ | {"DOCKER_HOST": "tcp://build.example"}, service_directory)
        found = find_engine(environ, service_directory, EngineKind.PODMAN)
    assert type(named.passed_over) is EngineRemote
    assert found.passed_over is None


MACHINE = """\
#!/bin/sh
case "$1 $2" in
    "system connection") cat "$0.connections" ;;
    "machine inspect") sed "s/NAME/$3/" "$0.machine" ;;
esac
"""


@pytest.mark.parametrize(
    ("connections", "sockets"),
    [
        (
            [
                {"Name": "other", "URI": "ssh://core@127.0.0.1:1/run/podman.sock", "Default": False},
                {"Name": "mine-root", "URI": "ssh://root@127.0.0.1:2/run/podman.sock", "Default": True},
            ],
            ["/tmp/mine.sock"],
        ),
        ([{"Name": "here", "URI": "unix:///run/my%20podman.sock", "Default": True}], ["/run/my podman.sock"]),
        ([{"Name": "far", "URI": "ssh://me@build.example/run/podman.sock", "Default": True}], []),
        ([], []),
        ({"no": "list"}, []),
    ],
)
def test_a_podman_machine_is_found_by_its_default_connection(
    tmp_path: Path, connections: object, sockets: list[str]
) -> None:
    program = tmp_path / "podman"
    program.write_text(MACHINE)
    program.chmod(0o755)
    (tmp_path / "podman.connections").write_text(json.dumps(connections))
    machine = [{"ConnectionInfo": {"PodmanSocket": {"Path": "/tmp/NAME.sock"}}}]
    (tmp_path / "podman.machine").write_text(json.dumps(machine))
    assert machine_sockets(str(program), dict(os.environ)) == sockets


@pytest.mark.parametrize(
    ("information", "expected"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=builtin", "name=selinux"]}, True),
        ({"SecurityOptions": ["name=seccomp,profile=builtin"]}, False),
        ({}, False),
    ],
)
def test_an_engine_that_uses_selinux_is_known(information: dict[str, object], expected: bool) -> None:
    assert read_traits({}, information).has_selinux is expected


def test_the_chosen_context_is_honoured_and_a_variable_wins(service_directory: Path, tmp_path: Path) -> None:
    meta = tmp_path / "contexts" / "meta" / sha256(b"mine").hexdigest()
    meta.mkdir(parents=True)
    host = f"unix://{service_directory}/context.sock"
    (meta / "meta.json").write_text(json.dumps({"Name": "mine", "Endpoints": {"docker": {"Host": host}}}))
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "mine"}))
    environ = {"PATH": _program(tmp_path / "bin", "docker"), "HOME": "/", "DOCKER_CONFIG": str(tmp_path)}
    by_choice = _failure(environ, service_directory, EngineKind.DOCKER)
    by_host = _failure(
        environ | {"DOCKER_HOST": "unix:///nowhere/host.sock"}, service_directory, EngineKind.DOCKER
    )
    assert f"{service_directory}/context.sock" in by_choice.reason
    assert "/nowhere/host.sock" in by_host.reason


def test_docker_out_of_reach_is_no_obstacle_where_podman_works(
    service_directory: Path, engine: Engine
) -> None:
    if engine.traits.kind is not EngineKind.PODMAN:
        pytest.skip("one engine is enough")
    environ = dict(os.environ) | {"DOCKER_HOST": f"unix://{service_directory}/none.sock"}
    with find_engine(environ, service_directory) as found:
        assert found.traits.kind is EngineKind.PODMAN
    assert list(service_directory.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not open the socket")
def test_a_socket_without_permission_is_told_apart(service_directory: Path) -> None:
    path = service_directory / "docker.sock"
    for directory in [service_directory, *service_directory.parents][:3]:
        directory.chmod(0o755)
    with _engine_that_says(path, {}):
        path.chmod(0o600)
        completed = _find_as_nobody(f"unix://{path}")
    assert completed.split("|")[:2] == [
        EngineNoPermission.__name__,
        f"could not use Docker: this user may not open {path}",
    ]
    assert completed.split("|")[2].startswith("run `sudo usermod -aG docker $USER` and log in again")


def _find_as_nobody(host: str) -> str:
    # A fork: another user may not be able to start this interpreter, as it can lie in root's home.
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            find_engine({"DOCKER_HOST": host, "PATH": ""}, Path("/"), EngineKind.DOCKER)
        except EngineUnusable as error:
            os.write(write_end, f"{type(error).__name__}|{error}|{error.remedy}".encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        text = answer.read().decode()
    os.waitpid(child, 0)
    return text
