"""Which blobs an event names: what has to be kept for its log, and goes along where the log goes."""

import re
from typing import Final

from stigmer_contract.events import (
    AnyEvent,
    ArtifactsCollected,
    BlobPayload,
    ExecutionStarted,
    SnapshotTaken,
)

_CASSETTE_BLOB: Final = re.compile(r"replay:sha256:([0-9a-f]{64})")


def blobs_named_by(event: AnyEvent) -> frozenset[str]:
    """The SHA-256 of each."""
    values: list[object] = [getattr(event, name) for name in type(event).model_fields]
    found = {value.sha256 for value in values if isinstance(value, BlobPayload)}
    if isinstance(event, ArtifactsCollected):
        found.update(file.sha256 for file in event.files)
    if isinstance(event, SnapshotTaken):
        found.update(each.sha256 for each in event.contents)
    if isinstance(event, ExecutionStarted):
        found.update(event.spec.packs)
        found.update(attachment.sha256 for attachment in event.attachments)
        for model in (event.model, event.spec.model):
            if model is not None and (match := _CASSETTE_BLOB.fullmatch(model)):
                found.add(match[1])
    return frozenset(found)
