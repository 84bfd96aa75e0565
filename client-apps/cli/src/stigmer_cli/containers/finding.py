"""Finds an engine that can be used: Docker, then Podman; else says of each why not, and what to do."""

import functools
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import cast

from stigmer_cli.containers.api import CONNECT_TIMEOUT_SECONDS, EngineApi, Json
from stigmer_cli.containers.endpoints import (
    Endpoint,
    docker_endpoints,
    names_docker,
    names_podman,
    podman_endpoints,
    socket_of,
)
from stigmer_cli.containers.engine import Engine, EngineKind, EngineTraits, own_podman_traits, read_traits
from stigmer_cli.containers.errors import (
    EngineGone,
    EngineNoPermission,
    EngineNotInstalled,
    EngineNotRunning,
    EngineRefused,
    EngineSilent,
    EngineTooOld,
    EngineUnusable,
)
from stigmer_cli.containers.podman_service import SOCKET_PATTERN, PodmanService, work_directory

NEEDED_API = (1, 41)
"""Docker 20.10: `one-shot` statistics. Podman serves it from 4.0 on."""
ANSWER_SECONDS = 10.0
_ASK = "ask the engine what it is"
_PODMAN_SERVER = "Libpod/"
"""How the `Server` header of Podman's service begins."""

_Make = Callable[[str, Callable[[], None] | None], Engine]
"""Makes an engine of its socket's path and what ends its service; None where it is not a service of ours."""

_TITLES = {EngineKind.DOCKER: "Docker", EngineKind.PODMAN: "Podman"}


def reopen_engine(environ: Mapping[str, str], service_directory: Path, known: EngineTraits) -> Engine:
    """An engine that was found before, without asking it again what it is: Podman takes a second to tell.

    Raises:
        EngineUnusable: it cannot be used any more.
    """
    return _find(known.kind, environ, service_directory, lambda path, end: _trust(known, path, end))


def find_engine(
    environ: Mapping[str, str],
    service_directory: Path,
    wanted: EngineKind | None = None,
    answer_seconds: float = ANSWER_SECONDS,
) -> Engine:
    """The first engine that can be used, or the wanted one. The caller closes it.

    `service_directory` exists and is private: where Podman serves no socket, a service of our own does there.
    `answer_seconds`: how long one is waited for that says nothing.

    Raises:
        EngineNotInstalled: there is none at all.
        EngineUnusable: the first that is installed cannot be used; the subclass tells why.
    """
    failures: dict[EngineKind, EngineUnusable] = {}
    for kind in (wanted,) if wanted else (EngineKind.DOCKER, EngineKind.PODMAN):
        try:
            examine = functools.partial(_examine, kind, answer_seconds)
            engine = _find(kind, environ, service_directory, examine)
        except EngineUnusable as error:
            failures[kind] = error
        else:
            return replace(engine, passed_over=_first_named(failures, environ))
    if (named := _first_named(failures, environ)) is not None:
        raise named
    installed = [failure for failure in failures.values() if not isinstance(failure, EngineNotInstalled)]
    if installed:
        raise installed[0]
    if wanted is not None:
        raise failures[wanted]
    raise EngineNotInstalled(
        "a container engine", "neither Docker nor Podman is installed", _install_remedy()
    )


def _first_named(
    failures: Mapping[EngineKind, EngineUnusable], environ: Mapping[str, str]
) -> EngineUnusable | None:
    """Of the engine that the person named by its address: another one in its stead is worth a word."""
    names = {EngineKind.DOCKER: names_docker, EngineKind.PODMAN: names_podman}
    return next((failure for kind, failure in failures.items() if names[kind](environ)), None)


def _find(kind: EngineKind, environ: Mapping[str, str], service_directory: Path, make: _Make) -> Engine:
    if kind is EngineKind.DOCKER:
        is_installed = _has_program("docker", environ) or _has_program("dockerd", environ)
        return _first_that_answers(kind, docker_endpoints(environ), is_installed, make)
    program = shutil.which("podman", path=environ.get("PATH"))
    try:
        return _first_that_answers(kind, podman_endpoints(environ, program), program is not None, make)
    except EngineNotRunning:
        # Podman needs no service; most people have none.
        if program is None or environ.get("CONTAINER_HOST") or sys.platform != "linux":
            raise
    for path in service_directory.glob(SOCKET_PATTERN):  # another command of ours serves it just now
        try:
            _connect(kind, str(path), True)
            return make(str(path), _end_nothing)
        except EngineUnusable:  # that command was killed
            path.unlink(missing_ok=True)
            shutil.rmtree(work_directory(path), ignore_errors=True)
    service = PodmanService.start(program, service_directory, environ)
    try:
        return make(service.socket_path, service.end)
    except BaseException:
        service.end()
        raise


def _first_that_answers(
    kind: EngineKind, endpoints: tuple[Endpoint, ...], is_installed: bool, make: _Make
) -> Engine:
    title = _TITLES[kind]
    failure: EngineUnusable | None = None
    for endpoint in endpoints:
        path = socket_of(title, endpoint)
        try:
            _connect(kind, path, is_installed, endpoint)
            return make(path, None)
        except EngineUnusable as error:
            if failure is None or isinstance(failure, EngineNotRunning | EngineNotInstalled):
                failure = error
    assert failure is not None, "there is at least one address to try"
    raise failure


def _end_nothing() -> None:
    """The engine's service is not ours to end."""


def _trust(known: EngineTraits, path: str, end_service: Callable[[], None] | None) -> Engine:
    return Engine(EngineApi(path, f"/v{known.api_version}"), known, end_service or _end_nothing)


def _connect(kind: EngineKind, path: str, is_installed: bool, endpoint: Endpoint | None = None) -> None:
    title = _TITLES[kind]
    named_by = endpoint.named_by if endpoint else None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONNECT_TIMEOUT_SECONDS)
            probe.connect(path)
    except PermissionError as error:
        reason = f"this user may not open {path}"
        raise EngineNoPermission(title, reason, _permission_remedy(kind)) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        if not is_installed and endpoint and named_by:
            reason = f"there is no {path}, which {named_by} names"
            raise EngineNotInstalled(title, reason, endpoint.remedy) from error
        if not is_installed:
            raise EngineNotInstalled(title, "it is not installed", _install_remedy(kind)) from error
        raise EngineNotRunning(
            title, f"it is installed, but there is no {path}", _start_remedy(kind)
        ) from error
    except OSError as error:
        raise EngineNotRunning(title, f"nobody answers at {path}", _start_remedy(kind)) from error


def _examine(
    kind: EngineKind, answer_seconds: float, path: str, end_service: Callable[[], None] | None
) -> Engine:
    title = _TITLES[kind]
    try:
        greeting = EngineApi(path).headers(_ASK, "/_ping", answer_seconds)
        spoken, server = greeting.get("Api-Version") or "", greeting.get("Server") or ""
        if _numbers(spoken) < NEEDED_API:
            needed = ".".join(map(str, NEEDED_API))
            version = server.partition("/")[2].partition(" ")[0] or "unknown"
            reason = f"version {version} speaks API {spoken or 'unknown'}, and {needed} is needed"
            raise EngineTooOld(title, reason, _update_remedy(kind))
        api = EngineApi(path, f"/v{spoken}")
        if end_service is not None and server.startswith(_PODMAN_SERVER):
            # Podman 4.3 takes a second for each of the questions below: it asks dpkg for versions.
            return Engine(api, own_podman_traits(server, spoken), end_service)
        with ThreadPoolExecutor(max_workers=2) as pool:
            version, information = pool.submit(_ask, api, "/version"), pool.submit(_ask, api, "/info")
        traits = read_traits(version.result(), information.result())
        return Engine(api, traits, end_service or _end_nothing)
    except (EngineGone, EngineRefused) as error:
        reason = f"it does not answer as it should at {path}: {error}"
        raise EngineSilent(title, reason, _start_remedy(kind)) from error


def _ask(api: EngineApi, path: str) -> Json:
    answer: object = api.call(_ASK, "GET", path, timeout_seconds=ANSWER_SECONDS)
    if not isinstance(answer, dict):
        raise EngineGone(_ASK, f"{path} answered no document")
    return cast("Json", answer)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _has_program(name: str, environ: Mapping[str, str]) -> bool:
    return shutil.which(name, path=environ.get("PATH")) is not None


def _install_remedy(kind: EngineKind | None = None) -> str:
    if sys.platform == "darwin":
        return "install Docker Desktop (https://docs.docker.com/desktop) or Podman (`brew install podman`)"
    if kind is EngineKind.DOCKER:
        return "install Docker Engine: https://docs.docker.com/engine/install"
    if kind is EngineKind.PODMAN:
        return "install the package `podman` of your distribution"
    return "install the package `podman`, or Docker Engine: https://docs.docker.com/engine/install"


def _start_remedy(kind: EngineKind) -> str:
    if sys.platform == "darwin":
        return "start Docker Desktop" if kind is EngineKind.DOCKER else "run `podman machine start`"
    if kind is EngineKind.DOCKER:
        return "run `sudo systemctl start docker`"
    return "run `podman info` to see what is wrong, or `systemctl --user start podman.socket`"


def _permission_remedy(kind: EngineKind) -> str:
    if kind is EngineKind.DOCKER:
        return (
            "run `sudo usermod -aG docker $USER` and log in again (the group is as mighty as root), "
            "or use Podman, which needs no such right"
        )
    return "unset CONTAINER_HOST to use your own rootless Podman"


def _update_remedy(kind: EngineKind) -> str:
    return "update Docker to 20.10 or newer" if kind is EngineKind.DOCKER else "update Podman to 4.0 or newer"
