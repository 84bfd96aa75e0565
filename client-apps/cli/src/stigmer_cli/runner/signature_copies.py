"""Copies of the documents by which images were verified, in `STIGMER_HOME/data/signatures`.

They are verified anew each time: a copy saves asking the registry, and vouches for nothing.
"""

import json
from pathlib import Path
from typing import cast

from stigmer_cli.config import Configuration, replace_file
from stigmer_cli.errors import HomeUnusable


def copied_documents(configuration: Configuration, digest: str) -> list[bytes]:
    """What was attached to the image of that digest when it was verified last; none where it never was."""
    try:
        texts = cast("object", json.loads(_file(configuration, digest).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return []
    if not isinstance(texts, list):
        return []
    return [text.encode() for text in cast("list[object]", texts) if isinstance(text, str)]


def copy_documents(configuration: Configuration, digest: str, documents: list[bytes]) -> None:
    """Keeps them in place of those before.

    Raises:
        HomeUnusable: they cannot be written.
    """
    path = _file(configuration, digest)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise HomeUnusable(path.parent, error.strerror or str(error)) from error
    texts = [document.decode(errors="replace") for document in documents]
    replace_file(path, json.dumps(texts) + "\n")


def _file(configuration: Configuration, digest: str) -> Path:
    return configuration.data_directory / "signatures" / f"{digest.removeprefix('sha256:')}.json"
