"""What engines say while they pull or load, made alike: events of layers, their sum, and errors by kind."""

import re
from dataclasses import dataclass, field
from typing import cast

from stigmer_cli.containers.api import Json
from stigmer_cli.containers.errors import (
    ArchiveUnusable,
    DiskFull,
    ImageError,
    ImageNotFound,
    PullFailed,
    RateLimited,
    RegistryDenied,
    RegistryUnreachable,
    RegistryUntrusted,
)

_COPYING = re.compile(r"Copying blob (?:sha256:)?([0-9a-f]{12,64})")
"""Podman's own call tells of a layer in this way (4.3.1)."""
_FINISHED = ("Pull complete", "Already exists", "Download complete", "Verifying Checksum", "Extracting")

_NO_ROOM = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)

# By the engines' English, since neither tells a kind. The first that matches wins.
# Seen with Docker 20.10.24 and Podman 4.3.1, each against docker-registry 2.8.
_ERROR_KINDS: tuple[tuple[re.Pattern[str], type[ImageError]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (_NO_ROOM.pattern, DiskFull),
        (r"toomanyrequests|too many requests|rate limit", RateLimited),
        (
            r"unauthorized|authentication required|no basic auth|access denied|denied:|forbidden",
            RegistryDenied,
        ),
        (r"x509: ", RegistryUntrusted),
        (r"manifest unknown|name unknown|not found|no such image", ImageNotFound),
        (
            r"connection refused|no such host|timeout|deadline exceeded|unreachable|reset by peer|EOF"
            r"|broken pipe|tls:|server misbehaving|pinging container registry|http response to https"
            r"|received unexpected HTTP status: 5|50[0234]",
            RegistryUnreachable,
        ),
    )
)


@dataclass(frozen=True)
class PullEvent:
    """What became of one layer."""

    layer: str
    """The first digits of its digest."""
    current_bytes: int | None
    """Downloaded so far; None where the engine does not tell: Podman, by its own call."""
    total_bytes: int | None
    is_downloaded: bool


@dataclass(frozen=True)
class DownloadSeen:
    """How much of the whole image has come, as seen from outside: by its own call Podman tells no bytes."""

    done_bytes: int


def read_pull_event(document: Json) -> PullEvent | None:
    """An event of a layer; None for what else the engine says."""
    if copied := _COPYING.match(str(document.get("stream") or "")):
        return PullEvent(copied[1][:12], None, None, is_downloaded=False)
    layer, status = str(document.get("id") or ""), str(document.get("status") or "")
    if not re.fullmatch(r"[0-9a-f]{12,64}", layer):
        return None
    detail = cast("Json", document.get("progressDetail") or {})
    is_downloading = status == "Downloading"
    return PullEvent(
        layer=layer[:12],
        current_bytes=int(detail["current"]) if is_downloading and "current" in detail else None,
        total_bytes=int(detail["total"]) if is_downloading and detail.get("total") else None,
        is_downloaded=status in _FINISHED,
    )


@dataclass
class PullProgress:
    """The sum of a pull's events. `sizes` are the layers' bytes where the registry told them."""

    sizes: dict[str, int] = field(default_factory=dict[str, int])
    _done: dict[str, int] = field(default_factory=dict[str, int])
    _finished: set[str] = field(default_factory=set[str])
    _seen_bytes: int = 0

    def add(self, event: PullEvent | DownloadSeen) -> None:
        """Takes one event."""
        if isinstance(event, DownloadSeen):
            # Of what is here already nothing comes, and temporary files go when they are unpacked.
            self._seen_bytes = max(self._seen_bytes, event.done_bytes)
            return
        if event.total_bytes is not None:
            self.sizes.setdefault(event.layer, event.total_bytes)
        if event.is_downloaded:
            self._finished.add(event.layer)
            self._done[event.layer] = self.sizes.get(event.layer, self._done.get(event.layer, 0))
        elif event.current_bytes is not None and event.layer not in self._finished:
            # Docker begins a layer anew after a cut connection: what is done may shrink.
            self._done[event.layer] = event.current_bytes
        else:
            self._done.setdefault(event.layer, 0)

    @property
    def done_bytes(self) -> int:
        """Downloaded so far; layers that were there already count."""
        return max(sum(self._done.values()), self._seen_bytes)

    @property
    def has_begun(self) -> bool:
        """Whether the registry has answered: what breaks now can go on where it stood."""
        return bool(self._done) or self._seen_bytes > 0

    @property
    def total_bytes(self) -> int | None:
        """Of the whole image; None as long as no size is known."""
        return sum(self.sizes.values()) or None

    @property
    def layers(self) -> dict[str, tuple[int, int | None]]:
        """Of each layer seen, what is done and how large it is."""
        return {layer: (done, self.sizes.get(layer)) for layer, done in self._done.items()}


def explain_pull_error(reference: str, said: str) -> ImageError:
    """The error of its kind."""
    said = " ".join(said.split())
    for pattern, kind in _ERROR_KINDS:
        if pattern.search(said):
            return kind(reference, said)
    return PullFailed(reference, said)


def explain_load_error(archive: str, said: str) -> ImageError:
    """`DiskFull`, or that the archive cannot be used."""
    # Podman 4.3 tells a line of each format that it tried; all but one say that it is not this format.
    for line in said.splitlines():
        if _NO_ROOM.search(line):
            return DiskFull(archive, line.lstrip(" *"))
    return ArchiveUnusable(archive, said)
