"""Asks a registry how large an image is, before it is pulled (OCI distribution specification 1.1)."""

import base64
import json
import queue
import re
import threading
import urllib.error
import urllib.request
from typing import Any, cast
from urllib.parse import urlencode

from stigmer_cli.containers.credentials import Credentials
from stigmer_cli.containers.errors import (
    ImageError,
    ImageNotFound,
    PullFailed,
    RateLimited,
    RegistryDenied,
    RegistryUnreachable,
)
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
_STATUS_KINDS: dict[int, type[ImageError]] = {
    401: RegistryDenied,
    403: RegistryDenied,
    404: ImageNotFound,
    429: RateLimited,
}
_HUB_HOST = "registry-1.docker.io"
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class _LoginNeeded(Exception):
    """The registry asks for a name and a password, and there are none."""


def layer_sizes(
    reference: ImageReference, architecture: str, credentials: Credentials | None
) -> dict[str, int]:
    """As `ask_layer_sizes`; empty where it cannot be known, since nobody is the worse for it."""
    try:
        return ask_layer_sizes(reference, architecture, credentials)
    except ImageError:
        return {}


def ask_layer_sizes(
    reference: ImageReference,
    architecture: str,
    credentials: Credentials | None,
    timeout_seconds: float = _TIMEOUT_SECONDS,
) -> dict[str, int]:
    """Compressed bytes of each layer, by 12 digits of its digest.

    `timeout_seconds` bounds all of it, also a name that nobody resolves.

    Raises:
        ImageError: its subclass tells why the registry does not tell.
    """
    answer: queue.SimpleQueue[dict[str, int] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(_layer_sizes(_Registry(reference, credentials), reference, architecture))
        except Exception as error:  # goes on in the asking thread
            answer.put(error)

    # A thread, since no time-out of a socket bounds the look-up of a name.
    threading.Thread(target=ask, daemon=True).start()
    try:
        told = answer.get(timeout=timeout_seconds)
    except queue.Empty:
        raise RegistryUnreachable(str(reference), f"no answer within {timeout_seconds:g} s") from None
    if isinstance(told, Exception):
        raise _explain(str(reference), told) from told
    return told


def _explain(reference: str, error: Exception) -> ImageError:
    match error:
        case urllib.error.HTTPError():
            kind = _STATUS_KINDS.get(error.code, RegistryUnreachable)
            return kind(reference, f"{error.code} {error.reason}")
        case OSError():
            return RegistryUnreachable(reference, str(getattr(error, "reason", None) or error))
        case _LoginNeeded():
            return RegistryDenied(reference, str(error))
        case StopIteration():
            return ImageNotFound(reference, "there is none for this architecture")
        case ValueError() | KeyError() | TypeError():
            return PullFailed(reference, "its answer is not as the distribution specification says")
        case _:
            raise error


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
                raise _LoginNeeded("the registry wants a login")
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
