"""The person's logins to registries, where Docker and Podman keep them. Reads; never writes, never shows."""

import base64
import binascii
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from stigmer_cli.containers.references import DEFAULT_REGISTRY

_HELPER_TIMEOUT_SECONDS = 10.0
_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io")


@dataclass(frozen=True)
class Credentials:
    """A login to one registry."""

    registry: str
    username: str
    password: str = field(repr=False)

    def header(self) -> str:
        """For `X-Registry-Auth` (Docker Engine API 1.41, "Authentication")."""
        document = {
            "username": self.username,
            "password": self.password,
            "serveraddress": self.registry,
        }
        if self.username == "<token>":  # docker-credential-helpers: the password is an identity token
            document = {"identitytoken": self.password, "serveraddress": self.registry}
        return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()


def find_credentials(registry: str, environ: Mapping[str, str]) -> Credentials | None:
    """The login to the registry, from the first file that has one; None where nobody logged in."""
    keys = _HUB_KEYS if registry == DEFAULT_REGISTRY else (registry, f"https://{registry}")
    for path in _files(environ):
        document = _read(path)
        for key in keys:
            helper = _text(_mapping(document.get("credHelpers")).get(key)) or _text(
                document.get("credsStore")
            )
            found = _ask_helper(helper, key, environ) if helper else None
            found = found or _from_entry(_mapping(_mapping(document.get("auths")).get(key)))
            if found is not None:
                return Credentials(registry, *found)
    return None


def _files(environ: Mapping[str, str]) -> list[Path]:
    home = Path(environ.get("HOME") or Path.home())
    configured = environ.get("REGISTRY_AUTH_FILE")
    runtime = environ.get("XDG_RUNTIME_DIR")
    return [
        *([Path(configured)] if configured else []),
        Path(environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json",
        *([Path(runtime) / "containers" / "auth.json"] if runtime else []),
        Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers" / "auth.json",
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        return _mapping(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # nobody logged in with this tool
        return {}


def _from_entry(entry: dict[str, Any]) -> tuple[str, str] | None:
    try:
        name, _, password = base64.b64decode(_text(entry.get("auth")) or "").decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (name, password) if name else None


def _ask_helper(helper: str, key: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Docker's protocol: the registry on stdin, JSON on stdout; any failure means no login."""
    try:
        completed = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=key,
            env=dict(environ),
            capture_output=True,
            text=True,
            timeout=_HELPER_TIMEOUT_SECONDS,
            check=True,
        )
        answer = _mapping(json.loads(completed.stdout))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    name, password = _text(answer.get("Username")), _text(answer.get("Secret"))
    return (name, password) if name and password else None


def _mapping(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
