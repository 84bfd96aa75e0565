"""Where a Podman machine, the virtual machine of macOS, answers on this side. Starts none."""

import json
import subprocess
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

_ASK_SECONDS: Final = 10.0
_LOCAL_HOSTS: Final = ("127.0.0.1", "localhost", "::1")
_ROOT: Final = "-root"
"""A machine has two connections: of its user, and of its root, which ends so (podman-machine-init(1))."""


def machine_sockets(program: str, environ: Mapping[str, str]) -> list[str]:
    """Paths of sockets that lead to the default connection; none without a machine of this one.

    The connection itself is SSH, which nobody can mount through; the machine forwards its socket to a file
    here (podman-system-connection-list(1), podman-machine-inspect(1); Podman 5).
    """
    connections = _documents(program, environ, "system", "connection", "list", "--format", "json")
    default = next((one for one in connections if one.get("Default")), None)
    if default is None:
        return []
    split = urlsplit(str(default.get("URI", "")))
    if split.scheme == "unix":
        return [unquote(split.path)]
    if split.hostname not in _LOCAL_HOSTS:
        return []
    machine = str(default.get("Name", "")).removesuffix(_ROOT)
    return [
        path
        for one in _documents(program, environ, "machine", "inspect", machine)
        if (path := _path(one.get("ConnectionInfo"), "PodmanSocket", "Path"))
    ]


def _documents(program: str, environ: Mapping[str, str], *arguments: str) -> list[dict[str, Any]]:
    try:
        done = subprocess.run(
            [program, *arguments],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ASK_SECONDS,
            check=True,
        )
        answer: object = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
    entries = cast("list[object]", answer) if isinstance(answer, list) else []
    return [cast("dict[str, Any]", entry) for entry in entries if isinstance(entry, dict)]


def _path(document: object, *names: str) -> str | None:
    for name in names:
        document = cast("dict[str, object]", document).get(name) if isinstance(document, dict) else None
    return document if isinstance(document, str) and document else None
