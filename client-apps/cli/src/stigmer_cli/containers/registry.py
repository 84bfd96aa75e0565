"""Asks a registry how large an image is, before it is pulled (OCI distribution specification 1.1).

Best effort: where the registry does not tell, nobody is the worse for it.
"""

import base64
import json
import re
import urllib.error
import urllib.request
from typing import Any, cast
from urllib.parse import urlencode

from stigmer_cli.containers.credentials import Credentials
from stigmer_cli.containers.references import DEFAULT_REGISTRY, ImageReference

_TIMEOUT_SECONDS = 10.0
_MAX_MANIFEST_BYTES = 4_000_000
_ACCEPTED = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_HUB_HOST = "registry-1.docker.io"
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


def layer_sizes(
    reference: ImageReference, architecture: str, credentials: Credentials | None
) -> dict[str, int]:
    """Compressed bytes of each layer, by 12 digits of its digest; empty where it cannot be known."""
    try:
        return _layer_sizes(_Registry(reference, credentials), reference, architecture)
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _layer_sizes(registry: "_Registry", reference: ImageReference, architecture: str) -> dict[str, int]:
    manifest = registry.manifest(reference.version)
    if "manifests" in manifest:
        entries = cast("list[dict[str, Any]]", manifest["manifests"])
        fitting = next(
            entry
            for entry in entries
            if entry["platform"]["architecture"] == architecture and entry["platform"]["os"] == "linux"
        )
        manifest = registry.manifest(str(fitting["digest"]))
    layers = cast("list[dict[str, Any]]", manifest["layers"])
    return {str(layer["digest"]).removeprefix("sha256:")[:12]: int(layer["size"]) for layer in layers}


class _Registry:
    """One repository of a registry."""

    def __init__(self, reference: ImageReference, credentials: Credentials | None) -> None:
        host = _HUB_HOST if reference.registry == DEFAULT_REGISTRY else reference.registry
        scheme = "http" if reference.is_on_loopback else "https"
        self._base_url = f"{scheme}://{host}/v2/{reference.repository}/manifests/"
        self._repository = reference.repository
        self._basic: str | None = None
        if credentials is not None:
            pair = f"{credentials.username}:{credentials.password}".encode()
            self._basic = f"Basic {base64.b64encode(pair).decode()}"
        self._authorization: str | None = None

    def manifest(self, version: str) -> dict[str, Any]:
        url = self._base_url + version
        try:
            return _get(url, self._authorization)
        except urllib.error.HTTPError as error:
            challenge = str(error.headers.get("WWW-Authenticate", ""))
            error.close()
            if error.code != 401 or self._authorization is not None:
                raise
        self._authorization = self._authorize(challenge)
        return _get(url, self._authorization)

    def _authorize(self, challenge: str) -> str:
        """A token, as the challenge asks (distribution's token specification), or the login itself."""
        if not challenge.lower().startswith("bearer"):
            if self._basic is None:
                raise ValueError("the registry wants a login")
            return self._basic
        asked = dict(_CHALLENGE.findall(challenge))
        realm = asked["realm"]
        if not realm.startswith("https://"):
            raise ValueError("a login must not go over plain HTTP")
        query = {
            "service": asked.get("service", ""),
            "scope": asked.get("scope", f"repository:{self._repository}:pull"),
        }
        answer = _get(f"{realm}?{urlencode(query)}", self._basic)
        return f"Bearer {answer.get('token') or answer['access_token']}"


def _get(url: str, authorization: str | None) -> dict[str, Any]:
    headers = {"Accept": _ACCEPTED} | ({"Authorization": authorization} if authorization else {})
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # http on loopback and https only
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310  # as above
        document: object = json.loads(response.read(_MAX_MANIFEST_BYTES))
    if not isinstance(document, dict):
        raise ValueError("no document")
    return cast("dict[str, Any]", document)
