"""Asks a registry about an image, before it is pulled (OCI distribution specification 1.1)."""

import base64
import hashlib
import json
import queue
import re
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

from stigmer_cli.containers.credentials import Credentials
from stigmer_cli.containers.errors import (
    ImageError,
    ImageNotFound,
    PullFailed,
    RateLimited,
    RegistryDenied,
    RegistryUnreachable,
    RegistryUntrusted,
)
from stigmer_cli.containers.references import DEFAULT_REGISTRY, ImageReference

_T = TypeVar("_T")
_TIMEOUT_SECONDS = 10.0
_USUAL_SECONDS = 4.0
"""A registry answers sooner, mostly."""
_MAX_DOCUMENT_BYTES = 16_000_000
_MAX_DOCUMENTS = 64
_NO_REFERRERS = (400, 404, 405)
"""How registries say that they do not know the endpoint, or have no such tag."""
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


@dataclass(frozen=True)
class RemoteImage:
    """What a registry tells of an image for one architecture."""

    layer_bytes: Mapping[str, int]
    """Compressed, by 12 digits of the layer's digest."""
    labels: Mapping[str, str] | None
    """None: it does not tell."""


def describe_image(
    reference: ImageReference,
    architecture: str,
    credentials: Credentials | None,
    silence_seconds: float,
    authorities: Path | None = None,
    on_slow: Callable[[], None] = lambda: None,
) -> RemoteImage:
    """How large an image is, and what it says of itself.

    `silence_seconds` bounds each wait for an answer, also of a name that nobody resolves; one that answers
    slowly takes its time. `on_slow` is called where one takes longer than usual. `authorities`: a PEM file
    of those that are trusted; None: the usual ones.

    Raises:
        ImageError: its subclass tells why the registry does not tell.
    """
    # None: an answer has come, and more are waited for.
    answer: queue.SimpleQueue[RemoteImage | Exception | None] = queue.SimpleQueue()

    def ask() -> None:
        registry = _Registry(reference, credentials, authorities, lambda: answer.put(None))
        try:
            answer.put(_describe(registry, reference, architecture))
        except Exception as error:  # goes on in the asking thread
            answer.put(error)

    # A thread, since no time-out of a socket bounds the look-up of a name.
    threading.Thread(target=ask, daemon=True).start()
    told = None
    while told is None:
        try:
            told = _await(answer, silence_seconds, on_slow)
        except queue.Empty:
            raise RegistryUnreachable(str(reference), f"no answer within {silence_seconds:g} s") from None
    if isinstance(told, Exception):
        raise _explain(str(reference), told) from told
    return told


def _await(answers: "queue.SimpleQueue[_T]", silence_seconds: float, on_slow: Callable[[], None]) -> _T:
    usual_seconds = min(_USUAL_SECONDS, silence_seconds)
    try:
        return answers.get(timeout=usual_seconds)
    except queue.Empty:
        on_slow()
    return answers.get(timeout=silence_seconds - usual_seconds)


def attached_documents(
    reference: ImageReference,
    artifact_type: str,
    credentials: Credentials | None,
    authorities: Path | None = None,
) -> tuple[str, list[bytes]]:
    """The digest that a reference points at now, and the documents of that type on it, at most 64.

    Raises:
        ImageError: its subclass tells why the registry does not tell.
    """
    try:
        attached = _Attached(reference, credentials, authorities)
        digest = reference.digest or attached.resolve(reference.version)
        return digest, attached.read(digest, artifact_type)
    except (OSError, _LoginNeeded, ValueError, KeyError, TypeError) as error:
        raise _explain(str(reference), error) from error


def _explain(reference: str, error: Exception) -> ImageError:
    match error:
        case urllib.error.HTTPError():
            kind = _STATUS_KINDS.get(error.code, RegistryUnreachable)
            return kind(reference, f"{error.code} {error.reason}")
        case urllib.error.URLError(reason=ssl.SSLCertVerificationError() as problem):
            return RegistryUntrusted(reference, problem.verify_message)
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


def _describe(registry: "_Registry", reference: ImageReference, architecture: str) -> RemoteImage:
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
    sizes = {str(layer["digest"]).removeprefix("sha256:")[:12]: int(layer["size"]) for layer in layers}
    return RemoteImage(sizes, _labels(registry, manifest))


def _labels(registry: "_Registry", manifest: dict[str, Any]) -> dict[str, str] | None:
    """Only a courtesy: what cannot be told before the pull is found out after it."""
    try:
        configuration = _document(registry.fetch(f"blobs/{manifest['config']['digest']}"))
        labels = cast("dict[str, Any]", configuration["config"].get("Labels") or {})
        return {name: str(value) for name, value in labels.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


class _Registry:
    """One repository of a registry."""

    def __init__(
        self,
        reference: ImageReference,
        credentials: Credentials | None,
        authorities: Path | None,
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_answer` is called for each answer, when its head has come."""
        host = _HUB_HOST if reference.registry == DEFAULT_REGISTRY else reference.registry
        scheme = "http" if reference.is_on_loopback else "https"
        self._base_url = f"{scheme}://{host}/v2/{reference.repository}/"
        self._repository = reference.repository
        self._basic: str | None = None
        if credentials is not None:
            pair = f"{credentials.username}:{credentials.password}".encode()
            self._basic = f"Basic {base64.b64encode(pair).decode()}"
        self._authorization: str | None = None
        self._on_answer = on_answer
        trust = ssl.create_default_context(cafile=authorities)
        self._opener = urllib.request.build_opener(_Redirects, urllib.request.HTTPSHandler(context=trust))

    def manifest(self, version: str) -> dict[str, Any]:
        return _document(self.fetch(f"manifests/{version}"))

    def fetch(self, path: str) -> bytes:
        """What is at a path of the repository, such as `blobs/sha256:…`; logs in where that is asked for."""
        url = self._base_url + path
        try:
            return self._get(url, self._authorization)
        except urllib.error.HTTPError as error:
            challenge = str(error.headers.get("WWW-Authenticate", ""))
            error.close()
            if error.code != 401 or self._authorization is not None:
                raise
        self._authorization = self._authorize(challenge)
        return self._get(url, self._authorization)

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
        answer = _document(self._get(f"{realm}?{urlencode(query)}", self._basic))
        return f"Bearer {answer.get('token') or answer['access_token']}"

    def _get(self, url: str, authorization: str | None) -> bytes:
        headers = {"Accept": _ACCEPTED} | ({"Authorization": authorization} if authorization else {})
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  # http on loopback and https only
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
                self._on_answer()
                return cast("bytes", response.read(_MAX_DOCUMENT_BYTES))
        except urllib.error.HTTPError:
            self._on_answer()
            raise


class _Attached(_Registry):
    """What is attached to images of one repository (OCI distribution specification 1.1, "Referrers")."""

    def resolve(self, version: str) -> str:
        return f"sha256:{hashlib.sha256(self.fetch(f'manifests/{version}')).hexdigest()}"

    def read(self, digest: str, artifact_type: str) -> list[bytes]:
        found: list[bytes] = []
        for entry in self._referrers(digest):
            if str(entry.get("artifactType")) != artifact_type or len(found) == _MAX_DOCUMENTS:
                continue
            manifest = _document(self._checked("manifests", str(entry["digest"])))
            [layer] = cast("list[dict[str, Any]]", manifest["layers"])
            found.append(self._checked("blobs", str(layer["digest"])))
        return found

    def _referrers(self, digest: str) -> list[dict[str, Any]]:
        # Registries without the endpoint keep the list under a tag ("Referrers Tag Schema").
        for path in (f"referrers/{digest}", f"manifests/{digest.replace(':', '-')}"):
            try:
                return cast("list[dict[str, Any]]", _document(self.fetch(path))["manifests"])
            except urllib.error.HTTPError as error:
                error.close()
                if error.code not in _NO_REFERRERS:
                    raise
        return []

    def _checked(self, kind: str, digest: str) -> bytes:
        content = self.fetch(f"{kind}/{digest}")
        if digest != f"sha256:{hashlib.sha256(content).hexdigest()}":
            raise ValueError(f"the registry sent another content for {digest}")
        return content


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Registries send blobs from elsewhere, where the login must not go."""

    def redirect_request(  # its name and arguments are urllib's
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None:
            request.remove_header("Authorization")
        return request


def _document(content: bytes) -> dict[str, Any]:
    document: object = json.loads(content)
    if not isinstance(document, dict):
        raise ValueError("no document")
    return cast("dict[str, Any]", document)
