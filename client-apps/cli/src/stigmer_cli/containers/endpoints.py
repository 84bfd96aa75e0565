"""Where an engine may answer: what variables, contexts and custom say, in that order. Connects to nobody."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from stigmer_cli.containers.errors import EngineAddressWrong, EngineRemote
from stigmer_cli.containers.podman_machine import machine_sockets


@dataclass(frozen=True)
class Endpoint:
    """An address to try."""

    url: str
    named_by: str | None = None
    """Who names it, such as `DOCKER_HOST`; None: custom."""
    remedy: str = ""
    """How to name another, where somebody does."""


def docker_endpoints(environ: Mapping[str, str]) -> tuple[Endpoint, ...]:
    """Addresses to try. `DOCKER_CONTEXT` wins over `DOCKER_HOST`, that over the chosen context (docker(1)).

    Raises:
        EngineAddressWrong: the context does not exist, or names no address.
    """
    context, named_by, remedy = environ.get("DOCKER_CONTEXT", ""), "DOCKER_CONTEXT", "unset DOCKER_CONTEXT"
    if not context:
        if host := environ.get("DOCKER_HOST"):
            return (Endpoint(host, "DOCKER_HOST", "unset DOCKER_HOST, or name a socket of this machine"),)
        context, named_by = _current_context(environ), "Docker's configuration"
        remedy = "run `docker context use default`"
    if context and context != "default":
        host = _context_host(context, environ, named_by, remedy)
        return (Endpoint(host, f"the Docker context {context!r}", remedy),)
    home = Path(environ.get("HOME") or Path.home())
    custom = ["unix:///var/run/docker.sock"]
    if sys.platform == "darwin":
        custom.insert(0, f"unix://{home}/.docker/run/docker.sock")
    elif runtime := environ.get("XDG_RUNTIME_DIR"):
        custom.append(f"unix://{runtime}/docker.sock")  # rootless
    return tuple(map(Endpoint, custom))


def podman_endpoints(environ: Mapping[str, str], program: str | None) -> tuple[Endpoint, ...]:
    """Addresses to try; where none answers, a service of our own may be started.

    `program` is asked for its machine where containers need one.
    """
    if host := environ.get("CONTAINER_HOST"):
        return (Endpoint(host, "CONTAINER_HOST", "unset CONTAINER_HOST, or name a socket of this machine"),)
    if sys.platform == "darwin" and program is not None and (sockets := machine_sockets(program, environ)):
        return tuple(Endpoint(f"unix://{socket}") for socket in sockets)
    if os.geteuid() == 0:
        return (Endpoint("unix:///run/podman/podman.sock"),)
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return (Endpoint(f"unix://{runtime}/podman/podman.sock"),)


def names_docker(environ: Mapping[str, str]) -> bool:
    """Whether somebody chose where Docker is to be found."""
    chosen = environ.get("DOCKER_HOST") or environ.get("DOCKER_CONTEXT") or _current_context(environ)
    return chosen not in ("", "default")


def names_podman(environ: Mapping[str, str]) -> bool:
    """Whether somebody chose where Podman is to be found."""
    return bool(environ.get("CONTAINER_HOST"))


def socket_of(engine: str, endpoint: Endpoint) -> str:
    """The path of a `unix://` URL.

    Raises:
        EngineRemote: it is another URL: files of this machine cannot be mounted there.
        EngineAddressWrong: it is no URL.
    """
    named_by = endpoint.named_by or "custom"
    try:
        split = urlsplit(endpoint.url)
        host = split.hostname or ""
    except ValueError as error:
        raise _wrong(engine, endpoint) from error
    if split.scheme == "unix" and split.path.startswith("/") and not split.netloc:
        return unquote(split.path)
    if not split.scheme or not split.netloc or split.scheme == "unix":
        raise _wrong(engine, endpoint)
    where = f"{split.scheme}://{host}"  # without a user's name
    reason = f"{named_by} names {where}, which is no socket of this machine, so directories cannot be mounted"
    raise EngineRemote(engine, reason, endpoint.remedy)


def _wrong(engine: str, endpoint: Endpoint) -> EngineAddressWrong:
    reason = f"{endpoint.named_by} names {endpoint.url!r}, which is no address"
    is_path = endpoint.url.startswith("/")
    remedy = f"write unix://{endpoint.url}" if is_path else "write unix:///PATH, with its socket's path"
    return EngineAddressWrong(engine, reason, remedy)


def _docker_directory(environ: Mapping[str, str]) -> Path:
    home = Path(environ.get("HOME") or Path.home())
    return Path(environ.get("DOCKER_CONFIG") or home / ".docker")


def _current_context(environ: Mapping[str, str]) -> str:
    value = (_read(_docker_directory(environ) / "config.json") or {}).get("currentContext")
    return value if isinstance(value, str) else ""


def _context_host(context: str, environ: Mapping[str, str], named_by: str, remedy: str) -> str:
    # Docker's context store: a directory named after the hash of the context's name.
    digest = hashlib.sha256(context.encode()).hexdigest()
    meta = _read(_docker_directory(environ) / "contexts" / "meta" / digest / "meta.json")
    if meta is None:
        reason = f"there is no Docker context {context!r}, which {named_by} names"
        raise EngineAddressWrong("Docker", reason, f"see `docker context ls`, or {remedy}")
    endpoints: object = meta.get("Endpoints")
    docker: object = cast("dict[str, Any]", endpoints).get("docker") if isinstance(endpoints, dict) else None
    host: object = cast("dict[str, Any]", docker).get("Host") if isinstance(docker, dict) else None
    if not isinstance(host, str) or not host:
        raise EngineAddressWrong("Docker", f"the Docker context {context!r} names no address", remedy)
    return host


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return cast("dict[str, Any]", document) if isinstance(document, dict) else None
