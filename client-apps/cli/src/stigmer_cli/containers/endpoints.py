"""Where an engine may answer: what variables, contexts and custom say, in that order. Connects to nobody."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from stigmer_cli.containers.errors import EngineRemote


def docker_endpoints(environ: Mapping[str, str]) -> tuple[str, ...]:
    """URLs to try. `DOCKER_CONTEXT` wins over `DOCKER_HOST`, that over the chosen context (docker(1))."""
    context = environ.get("DOCKER_CONTEXT", "")
    if not context:
        if host := environ.get("DOCKER_HOST"):
            return (host,)
        context = _current_context(environ)
    if context and context != "default":
        host = _context_host(context, environ)
        return (host,) if host else ()
    home = Path(environ.get("HOME") or Path.home())
    custom = ["unix:///var/run/docker.sock"]
    if sys.platform == "darwin":
        custom.insert(0, f"unix://{home}/.docker/run/docker.sock")
    elif runtime := environ.get("XDG_RUNTIME_DIR"):
        custom.append(f"unix://{runtime}/docker.sock")  # rootless
    return tuple(custom)


def podman_endpoints(environ: Mapping[str, str]) -> tuple[str, ...]:
    """URLs to try; where none answers, a service of our own may be started."""
    if host := environ.get("CONTAINER_HOST"):
        return (host,)
    if os.geteuid() == 0:
        return ("unix:///run/podman/podman.sock",)
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return (f"unix://{runtime}/podman/podman.sock",)


def socket_of(engine: str, url: str, remedy: str) -> str:
    """The path of a `unix://` URL.

    Raises:
        EngineRemote: it is another URL: files of this machine cannot be mounted there.
    """
    split = urlsplit(url)
    if split.scheme != "unix":
        where = f"{split.scheme}://{split.hostname or ''}"  # without a user's name
        raise EngineRemote(
            engine, f"{where} is not on this machine, so directories cannot be mounted", remedy
        )
    return unquote(split.path)


def _docker_directory(environ: Mapping[str, str]) -> Path:
    home = Path(environ.get("HOME") or Path.home())
    return Path(environ.get("DOCKER_CONFIG") or home / ".docker")


def _current_context(environ: Mapping[str, str]) -> str:
    value = _read(_docker_directory(environ) / "config.json").get("currentContext")
    return value if isinstance(value, str) else ""


def _context_host(context: str, environ: Mapping[str, str]) -> str | None:
    # Docker's context store: a directory named after the hash of the context's name.
    digest = hashlib.sha256(context.encode()).hexdigest()
    meta = _read(_docker_directory(environ) / "contexts" / "meta" / digest / "meta.json")
    endpoints: object = meta.get("Endpoints")
    docker: object = cast("dict[str, Any]", endpoints).get("docker") if isinstance(endpoints, dict) else None
    host: object = cast("dict[str, Any]", docker).get("Host") if isinstance(docker, dict) else None
    return host if isinstance(host, str) and host else None


def _read(path: Path) -> dict[str, Any]:
    try:
        document: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", document) if isinstance(document, dict) else {}
