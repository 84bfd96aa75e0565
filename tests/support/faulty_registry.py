"""An image registry on loopback that holds one small image, and misbehaves on order.

Speaks what engines ask of the distribution specification for a pull, with ranges; nothing can be pushed.
"""

import base64
import gzip
import hashlib
import json
import re
import secrets
import tarfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from small_image import write_image_archive

LAYER_BYTES = 4_000_000
REPOSITORY, TAG = "tests/runner", "1"
_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_CHUNK_BYTES = 50_000
_PATH = re.compile(r"/v2/(?:(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<version>[^/]+))?")


@dataclass
class Orders:
    """How the registry misbehaves; by default not at all."""

    refusal: tuple[int, str] | None = None
    """Status and code of the specification with which manifests are refused, such as 429, TOOMANYREQUESTS."""
    login: tuple[str, str] | None = None
    """Name and password that are wanted."""
    cuts: int = 0
    """So many answers with the layer end half-way."""
    bytes_per_second: float | None = None
    """Of layers."""
    stall: threading.Event | None = None
    """In the middle of a layer it is waited for."""


@dataclass
class Seen:
    """What was asked for."""

    layer_starts: list[int] = field(default_factory=list[int])
    """The first byte of each answer with the layer."""
    stalled: threading.Event = field(default_factory=threading.Event)
    """Set when an answer stalls."""


class FaultyRegistry:
    """The registry, as a context manager."""

    def __init__(self, folder: Path, *, labels: Mapping[str, str], version: str = TAG) -> None:
        self.orders, self.seen = Orders(), Seen()
        self.blobs: dict[str, bytes] = {}
        folder.mkdir(exist_ok=True)
        self.manifests = {version: self._pack(folder / "image.tar", labels)}
        registry = self

        class Handler(_Handler):
            served = registry

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.address = f"127.0.0.1:{self._server.server_port}"
        self.reference = f"{self.address}/{REPOSITORY}:{version}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.orders.stall is not None:
            self.orders.stall.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _pack(self, archive: Path, labels: Mapping[str, str]) -> bytes:
        """The image as blobs; answers its manifest. No two images are alike, so nothing is there already."""
        write_image_archive(
            archive, "tests:1", labels=labels, contents={"unlike": secrets.token_bytes(LAYER_BYTES)}
        )
        with tarfile.open(archive) as tar:
            files = {member.name: _read(tar, member) for member in tar.getmembers()}
        (listed,) = json.loads(files["manifest.json"])
        config, layer = files[listed["Config"]], gzip.compress(files[listed["Layers"][0]], 1, mtime=0)
        self.layer_bytes = len(layer)
        self._layer_digest = _digest(layer)
        self.blobs |= {_digest(config): config, self._layer_digest: layer}
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": _descriptor("application/vnd.docker.container.image.v1+json", config),
            "layers": [_descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)],
        }
        return json.dumps(manifest).encode()

    @property
    def layer(self) -> str:
        """The digits of its digest."""
        return self._layer_digest.removeprefix("sha256:")

    def is_layer(self, digest: str) -> bool:
        """Whether a blob is the layer."""
        return digest == self._layer_digest


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: FaultyRegistry

    def do_GET(self) -> None:
        orders, match = self.served.orders, _PATH.fullmatch(self.path)
        if match is None:
            return self._refuse(404, "NAME_UNKNOWN")
        if orders.login is not None and not self._is_logged_in(orders.login):
            return self._refuse(401, "UNAUTHORIZED")
        if match["kind"] is None:
            return self._answer(200, b"{}", "application/json")
        if match["kind"] == "manifests":
            if orders.refusal is not None:
                return self._refuse(*orders.refusal)
            known = self.served.manifests | {_digest(m): m for m in self.served.manifests.values()}
            manifest = known.get(match["version"])
            if manifest is None:
                return self._refuse(404, "MANIFEST_UNKNOWN")
            return self._answer(200, manifest, _MANIFEST_TYPE)
        blob = self.served.blobs.get(match["version"])
        return self._refuse(404, "BLOB_UNKNOWN") if blob is None else self._send_blob(match["version"], blob)

    do_HEAD = do_GET

    def _is_logged_in(self, login: tuple[str, str]) -> bool:
        wanted = base64.b64encode(":".join(login).encode()).decode()
        return self.headers.get("Authorization") == f"Basic {wanted}"

    def _refuse(self, status: int, code: str) -> None:
        message = f"{code.lower()}: told to refuse" if code == "TOOMANYREQUESTS" else "told to refuse"
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self._answer(status, body, "application/json")

    def _answer(self, status: int, body: bytes, kind: str, more: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="tests"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", _digest(body))
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and kind != "application/octet-stream":
            self.wfile.write(body)

    def _send_blob(self, digest: str, blob: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-.*", self.headers.get("Range") or "")
        start = int(asked[1]) if asked else 0
        span = {"Content-Range": f"bytes {start}-{len(blob) - 1}/{len(blob)}"} if asked else {}
        self._answer(206 if asked else 200, blob[start:], "application/octet-stream", span)
        if self.command == "HEAD":
            return
        if not self.served.is_layer(digest):
            self.wfile.write(blob[start:])
            return
        self.served.seen.layer_starts.append(start)
        self._send_layer(blob[start:])

    def _send_layer(self, rest: bytes) -> None:
        orders = self.served.orders
        is_cut = orders.cuts > 0
        orders.cuts -= is_cut
        half = len(rest) // 2
        for position in range(0, len(rest), _CHUNK_BYTES):
            if position >= half and is_cut:
                self.close_connection = True
                return
            if position >= half and orders.stall is not None:
                self.served.seen.stalled.set()
                orders.stall.wait()
            chunk = rest[position : position + _CHUNK_BYTES]
            try:
                self.wfile.write(chunk)
            except OSError:  # whoever pulled has gone
                self.close_connection = True
                return
            if orders.bytes_per_second is not None:
                time.sleep(len(chunk) / orders.bytes_per_second)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Says nothing."""


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "size": len(content), "digest": _digest(content)}


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()
