"""An engine's images: finding, loading and pulling them. What a pull says is `pulling`'s concern."""

import contextlib
import json
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from stigmer_cli.containers.api import EngineApi, Json
from stigmer_cli.containers.credentials import Credentials
from stigmer_cli.containers.errors import ArchiveUnusable, EngineGone, EngineRefused, ImageNotFound
from stigmer_cli.containers.podman_service import work_directory
from stigmer_cli.containers.pulling import (
    DownloadSeen,
    PullEvent,
    explain_load_error,
    explain_pull_error,
    read_pull_event,
)
from stigmer_cli.containers.references import ImageReference

_NOT_FOUND = 404
_LIBPOD = "/v4.0.0"
"""The version of Podman's own API."""
_SILENCE_SECONDS = 300.0
"""A pull that says nothing for so long has ended: unpacking a large layer is silent for a minute or two."""

_WATCH_SECONDS = 0.2


@dataclass(frozen=True)
class Image:
    """An image that the engine has."""

    image_id: str
    """`sha256:…` of its configuration."""
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    """`NAME@sha256:…` of the registries it came from; none for what was built here."""
    labels: Mapping[str, str]
    size_bytes: int
    """Unpacked."""
    architecture: str
    """As Go names it (`amd64`); empty where it is given by `list_images`."""
    created: str
    """RFC 3339; where it is given by `list_images`, seconds since 1970."""


@dataclass(frozen=True)
class Images:
    """The images of one engine."""

    api: EngineApi
    engine_kind: str
    """`docker` or `podman`: their pulls are told apart."""

    def find(self, reference: str) -> Image | None:
        """The image of that reference or id; None where the engine has none. Asks no registry."""
        try:
            document = cast("Json", self.api.call("look up an image", "GET", f"/images/{reference}/json"))
        except EngineRefused as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        return Image(
            image_id=_full_id(str(document["Id"])),
            tags=tuple(document.get("RepoTags") or ()),
            digests=tuple(document.get("RepoDigests") or ()),
            labels=dict(cast("Json", document.get("Config") or {}).get("Labels") or {}),
            size_bytes=int(document.get("Size") or 0),
            architecture=str(document.get("Architecture", "")),
            created=str(document.get("Created", "")),
        )

    def list_images(self, labels: Mapping[str, str]) -> list[Image]:
        """The tagged images that carry all the labels, newest first."""
        # Podman 4.3 finds nothing by two labels, so the engine is asked for the first alone.
        wanted = [f"{name}={value}" for name, value in labels.items()][:1]
        filters = {"label": wanted} if wanted else {}
        found = cast(
            "list[Json] | None",
            self.api.call("list images", "GET", "/images/json", query={"filters": json.dumps(filters)}),
        )
        images = [
            Image(
                image_id=_full_id(str(entry["Id"])),
                tags=tuple(tag for tag in entry.get("RepoTags") or () if tag != "<none>:<none>"),
                digests=tuple(entry.get("RepoDigests") or ()),
                labels=dict(entry.get("Labels") or {}),
                size_bytes=int(entry.get("Size") or 0),
                architecture="",
                created=str(entry["Created"]),
            )
            for entry in found or []
            if labels.items() <= dict(entry.get("Labels") or {}).items()
        ]
        return sorted(
            (image for image in images if image.tags), key=lambda image: int(image.created), reverse=True
        )

    def ids(self) -> set[str]:
        """Of every image, those without a name too."""
        found = cast("list[Json] | None", self.api.call("list images", "GET", "/images/json"))
        return {_full_id(str(entry["Id"])) for entry in found or []}

    def remove(self, image: Image) -> None:
        """Removes an image with all its names; idempotent."""
        path = f"/images/{image.image_id}"
        try:
            self.api.call(f"remove {image.image_id}", "DELETE", path, query={"force": "true"})
        except EngineRefused as error:
            if error.status != _NOT_FOUND:
                raise

    def pull(
        self,
        reference: ImageReference,
        on_event: Callable[[PullEvent | DownloadSeen], None],
        credentials: Credentials | None = None,
    ) -> Image:
        """Brings the image from its registry; leaving it by an exception, also Ctrl-C, ends the pull.

        Raises:
            ImageError: its subclass tells the reason.
        """
        what = f"pull {reference}"
        api, path = self.api, "/images/create"
        query = {"fromImage": reference.name, "tag": reference.version}
        if reference.is_on_loopback and self.engine_kind == "podman":
            # Podman 4.3 speaks plain HTTP only by this call of its own, which tells no layers.
            api, path = EngineApi(api.socket_path, _LIBPOD), "/libpod/images/pull"
            query = {"reference": reference.pinned, "tlsVerify": "false", "policy": "always"}
        headers = {} if credentials is None else {"X-Registry-Auth": credentials.header()}
        try:
            with (
                self._watch_downloads(on_event),
                api.stream(
                    what, "POST", path, query=query, headers=headers, timeout_seconds=_SILENCE_SECONDS
                ) as stream,
            ):
                for document in stream.documents():
                    if said := _error_of(document):  # Podman answers 200 and tells it here
                        raise explain_pull_error(str(reference), said)
                    if event := read_pull_event(document):
                        on_event(event)
        except EngineRefused as error:
            raise explain_pull_error(str(reference), error.said) from error
        found = self.find(reference.pinned)
        if found is None:  # Podman 4.3 may end the stream without a word
            raise ImageNotFound(str(reference), "the pull ended without an image and without a reason")
        return found

    @contextmanager
    def _watch_downloads(self, on_event: Callable[[DownloadSeen], None]) -> Generator[None]:
        """Tells how much has come to where a Podman service of our own downloads to."""
        directory = work_directory(Path(self.api.socket_path))
        if not directory.is_dir():
            yield
            return
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(_WATCH_SECONDS):
                if size := _size_of(directory):
                    on_event(DownloadSeen(size))

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def add_tag(self, image: Image, reference: ImageReference) -> Image:
        """Lets the image be found by the reference's name and tag; answers it with them."""
        query = {"repo": reference.name, "tag": reference.tag or "latest"}
        self.api.call(f"tag {reference}", "POST", f"/images/{image.image_id}/tag", query=query)
        return self.find(image.image_id) or image

    def load(self, archive: Path) -> str:
        """Loads what `docker save` or `podman save` wrote; answers the reference or id of its image.

        Raises:
            ArchiveUnusable: it cannot be read, or holds no image.
            DiskFull: there is no room for the image.
        """
        loaded: list[str] = []
        try:
            with (
                archive.open("rb") as file,
                self.api.stream(
                    f"load {archive}",
                    "POST",
                    "/images/load",
                    query={"quiet": "true"},
                    body=file,
                    headers={"Content-Length": str(archive.stat().st_size)},
                ) as stream,
            ):
                for document in stream.documents():
                    if said := _error_of(document):
                        raise explain_load_error(str(archive), said)
                    loaded += _loaded_names(str(document.get("stream", "")))
        except OSError as error:
            raise ArchiveUnusable(str(archive), error.strerror or str(error)) from error
        except (EngineRefused, EngineGone) as error:
            said = error.said if isinstance(error, EngineRefused) else error.reason
            raise explain_load_error(str(archive), said) from error
        if not loaded:
            raise ArchiveUnusable(str(archive), "it holds no image")
        return loaded[0]


def _size_of(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _loaded_names(text: str) -> list[str]:
    """Docker 20.10: `Loaded image: NAME`, `Loaded image ID: ID`; Podman 4.3: `Loaded image: A,B`."""
    _, separator, names = text.strip().partition(": ")
    is_line = separator and text.lstrip().startswith("Loaded image")
    return [name.strip() for name in names.split(",")] if is_line else []


def _error_of(document: Json) -> str | None:
    detail = document.get("errorDetail")
    said = cast("Json", detail).get("message") if isinstance(detail, dict) else None
    return str(said or document["error"]) if said or document.get("error") else None


def _full_id(image_id: str) -> str:
    return image_id if image_id.startswith("sha256:") else f"sha256:{image_id}"
