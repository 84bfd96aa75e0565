"""Packs the operations of OpenAPI documents, of files beside the manifest and of URLs."""

import hashlib
import http.client
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stigmer_cli.commands.packed_files import FilesRefused
from stigmer_cli.commands.shared_files import read_file
from stigmer_cli.rendering.quantities import plural

if TYPE_CHECKING:
    from stigmer_contract.manifest_openapi import OpenApi

FETCH_SECONDS = 60.0
"""Between two pieces of a document."""
MAX_NOTES = 5


@dataclass(frozen=True)
class PackedApi:
    """An API's operations, and where they are asked for."""

    server: str
    pack: bytes
    notes: Sequence[str]
    """What of the document is left out, and why."""

    @property
    def reference(self) -> str:
        """What names the pack's content."""
        return f"sha256:{hashlib.sha256(self.pack).hexdigest()}"


def pack_api(api: "OpenApi", folder: Path) -> PackedApi:
    """Pack what an API's document describes.

    Raises:
        FilesRefused: the document cannot be had, is none, or not the one that is pinned.
    """
    from stigmer_contract.openapi_document import DocumentRefused, read_api
    from stigmer_contract.openapi_operations import OPERATIONS_FILE
    from stigmer_contract.openapi_text import DocumentUnreadable, read_document_text
    from stigmer_contract.packs import PackedFile, write_pack

    document = api.document or ""
    is_url = document.startswith(("https://", "http://"))
    content = _fetch(document) if is_url else _read(folder / Path(document).expanduser(), document)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if api.digest not in (None, digest):
        raise FilesRefused(f"the document {document!r} has another digest: {digest}")
    try:
        read = read_api(read_document_text(content), api, document if is_url else None)
    except (DocumentUnreadable, DocumentRefused) as error:
        raise FilesRefused(f"the document {document!r} cannot be used: {error}") from error
    left_out = read.operations.left_out
    notes = [f"{api.name}: {name!r} is left out: {why}" for name, why in list(left_out.items())[:MAX_NOTES]]
    if len(left_out) > MAX_NOTES:
        notes.append(f"{api.name}: {plural(len(left_out) - MAX_NOTES, 'further operation')} left out")
    packed = read.operations.model_dump_json(exclude_defaults=True).encode()
    return PackedApi(read.server, write_pack([PackedFile(OPERATIONS_FILE, packed, False)]), notes)


def _read(path: Path, written: str) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise FilesRefused(f"the document {written!r} cannot be read: {error.strerror}") from error


def _fetch(url: str) -> bytes:
    from stigmer_contract.openapi_text import MAX_DOCUMENT_BYTES

    accepted = {"Accept": "application/json, application/yaml, text/*;q=0.9, */*;q=0.1"}
    try:
        request = urllib.request.Request(url, headers=accepted)  # noqa: S310 - http or https, by the caller
        with urllib.request.urlopen(request, timeout=FETCH_SECONDS) as answer:  # noqa: S310 - as above
            content: bytes = answer.read(MAX_DOCUMENT_BYTES + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FilesRefused(f"the document {url!r} cannot be fetched: {error}") from error
    return content
