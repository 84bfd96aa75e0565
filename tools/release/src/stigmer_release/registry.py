"""One repository of an image registry: blobs, manifests, tags and what is attached to an image.

The OCI distribution specification 1.1 over HTTP. What the documents mean is for others to know.
"""

import base64
import hashlib
import json
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import httpx

from stigmer_release.errors import RegistryRefused

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
_ACCEPTED: Final = ", ".join([OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST])
_EMPTY: Final = b"{}"
_EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
_HUB: Final = "registry-1.docker.io"
_LOOPBACK: Final = re.compile(r"(localhost|127\.\d+\.\d+\.\d+)(:\d+)?")
_CHALLENGE: Final = re.compile(r'(\w+)="([^"]*)"')
_TIMEOUT_SECONDS: Final = 300.0
_PIECE_BYTES: Final = 1 << 20
_NOT_FOUND: Final = 404
_UNAUTHORIZED: Final = 401


@dataclass(frozen=True)
class Manifest:
    """A manifest as the registry has it: its digest is over these bytes."""

    content: bytes
    media_type: str

    @property
    def digest(self) -> str:
        """`sha256:…`."""
        return digest_of(self.content)

    @property
    def document(self) -> dict[str, Any]:
        """Read as JSON."""
        return cast("dict[str, Any]", json.loads(self.content))

    def descriptor(self) -> dict[str, Any]:
        """How others point at it."""
        return {"mediaType": self.media_type, "size": len(self.content), "digest": self.digest}


class Repository:
    """A repository such as `ghcr.io/stigmer/agent-runner`.

    Raises, from every method:
        RegistryRefused: the registry refused, or does not answer.
    """

    def __init__(self, client: httpx.Client, name: str, credentials: tuple[str, str] | None) -> None:
        """Use `open_repository`."""
        self.name = name
        self._path = name.partition("/")[2]
        self._client = client
        self._credentials = credentials
        self._authorization: str | None = None

    def manifest(self, version: str) -> Manifest | None:
        """What a tag or digest points at; None where there is none."""
        answer = self._call(
            "GET", f"manifests/{version}", missing_is_fine=True, headers={"Accept": _ACCEPTED}
        )
        if answer.status_code == _NOT_FOUND:
            return None
        return Manifest(answer.content, answer.headers["Content-Type"])

    def put_manifest(self, manifest: Manifest, tag: str | None = None) -> httpx.Response:
        """Under a tag, or by its digest alone."""
        return self._call(
            "PUT",
            f"manifests/{tag or manifest.digest}",
            content=manifest.content,
            headers={"Content-Type": manifest.media_type},
        )

    def tags(self) -> list[str]:
        """All tags, in no order; none where the repository is not there yet."""
        found: list[str] = []
        path: str | None = "tags/list?n=1000"
        while path:
            answer = self._call("GET", path, missing_is_fine=True)
            if answer.status_code == _NOT_FOUND:
                return []
            found += answer.json()["tags"] or []
            following = answer.links.get("next", {}).get("url")
            path = f"tags/list?{following.partition('?')[2]}" if following else None
        return found

    def read_blob(self, digest: str) -> bytes:
        """A blob's content."""
        return self._call("GET", f"blobs/{digest}").content

    def put_blob(self, content: bytes | Path) -> str:
        """Sends a blob, where the registry has it not yet; answers its digest."""
        digest = digest_of(content)
        if self._call("HEAD", f"blobs/{digest}", missing_is_fine=True).is_success:
            return digest
        started = self._call("POST", "blobs/uploads/")
        place = httpx.URL(started.headers["Location"]).copy_merge_params({"digest": digest})
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        self._request(
            "PUT",
            str(self._client.base_url.join(place)),
            content=content if isinstance(content, bytes) else _pieces(content),
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)},
        )
        return digest

    def attach(
        self, subject: Manifest, content: bytes, artifact_type: str, annotations: Mapping[str, str]
    ) -> Manifest:
        """Attaches a document to a manifest that is here, and lists it where the registry does not."""
        config = {"mediaType": _EMPTY_TYPE, "size": len(_EMPTY), "digest": self.put_blob(_EMPTY)}
        layer = {"mediaType": artifact_type, "size": len(content), "digest": self.put_blob(content)}
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": config,
            "layers": [layer],
            "subject": subject.descriptor(),
            "annotations": dict(annotations),
        }
        manifest = Manifest(canonical_json(document), OCI_MANIFEST)
        answer = self.put_manifest(manifest)
        if "OCI-Subject" not in answer.headers:
            listed = manifest.descriptor() | {"artifactType": artifact_type, "annotations": dict(annotations)}
            self._list_under_tag(subject.digest, listed)
        return manifest

    def _list_under_tag(self, subject: str, listed: dict[str, Any]) -> None:
        """The specification's "Referrers Tag Schema", for registries that keep no list themselves."""
        tag = subject.replace(":", "-")
        present = self.manifest(tag)
        others: list[dict[str, Any]] = [] if present is None else present.document["manifests"]
        entries = [entry for entry in others if entry["digest"] != listed["digest"]] + [listed]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        self.put_manifest(Manifest(canonical_json(index), OCI_INDEX), tag)

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._request(method, f"/v2/{self._path}/{path}", **options)

    def _request(
        self, method: str, url: str, *, missing_is_fine: bool = False, **options: Any
    ) -> httpx.Response:
        answer = self._send(method, url, **options)
        if answer.status_code == _UNAUTHORIZED and self._authorization is None:
            self._authorization = self._log_in(answer.headers.get("WWW-Authenticate", ""))
            answer = self._send(method, url, **options)
        if answer.is_success or (missing_is_fine and answer.status_code == _NOT_FOUND):
            return answer
        raise RegistryRefused(
            f"could not {method} {answer.url.path}: {answer.status_code} {answer.text.strip()[:200]}",
            "set REGISTRY_USER and REGISTRY_PASSWORD" if answer.status_code == _UNAUTHORIZED else None,
        )

    def _send(self, method: str, url: str, **options: Any) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        if self._authorization:
            headers["Authorization"] = self._authorization
        try:
            return self._client.request(method, url, headers=headers, **options)
        except httpx.HTTPError as error:
            raise RegistryRefused(f"could not reach {self.name}: {error}", "try again") from error

    def _log_in(self, challenge: str) -> str:
        """As the challenge asks: the login itself, or a token for it (distribution's token specification)."""
        asked = dict(_CHALLENGE.findall(challenge))
        if not challenge.lower().startswith("bearer"):
            if self._credentials is None:
                raise RegistryRefused(f"{self.name} wants a login", "set REGISTRY_USER and REGISTRY_PASSWORD")
            return f"Basic {base64.b64encode(':'.join(self._credentials).encode()).decode()}"
        scope = f"repository:{self._path}:pull,push" if self._credentials else f"repository:{self._path}:pull"
        answer = httpx.get(
            asked["realm"],
            params={"service": asked.get("service", ""), "scope": scope},
            auth=self._credentials,
            timeout=_TIMEOUT_SECONDS,
        )
        if not answer.is_success:
            raise RegistryRefused(f"{self.name} refused the login: {answer.status_code}")
        token = answer.json()
        return f"Bearer {token.get('token') or token['access_token']}"


@contextmanager
def open_repository(name: str, credentials: tuple[str, str] | None) -> Generator[Repository]:
    """A repository by its name with registry; over plain HTTP on loopback only."""
    host = name.partition("/")[0].replace("docker.io", _HUB)
    scheme = "http" if _LOOPBACK.fullmatch(host) else "https"
    with httpx.Client(
        base_url=f"{scheme}://{host}", timeout=_TIMEOUT_SECONDS, follow_redirects=True
    ) as client:
        yield Repository(client, name, credentials)


def canonical_json(document: object) -> bytes:
    """The same bytes for the same document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(content: bytes | Path) -> str:
    """`sha256:…`."""
    if isinstance(content, bytes):
        return f"sha256:{hashlib.sha256(content).hexdigest()}"
    with content.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _pieces(path: Path) -> Generator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
