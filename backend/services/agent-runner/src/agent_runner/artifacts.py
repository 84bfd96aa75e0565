"""Collects the files that an agent's manifest asks for, as its execution ends: reads, masks and stores them.

Only regular files beneath the workspace, opened without following any link. What cannot be collected is told
in the event, and is no reason for the execution to fail.
"""

import asyncio
import codecs
import functools
import hashlib
import io
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from pydantic_ai.workspaces import WorkspaceError

from agent_runner.errors import AttemptSuperseded, ServerRefused
from agent_runner.masking import MaskedStream, Masker
from agent_runner.server_client import LegClient
from agent_runner.toolsets.file_walk import FileWalk
from agent_runner.toolsets.globs import InvalidGlob, compile_glob
from agent_runner.toolsets.shown_names import shown_name
from agent_runner.workspace import SessionWorkspace
from stigmer_contract.artifacts import (
    MAX_ARTIFACT_BYTES,
    MAX_ARTIFACT_PATH_CHARACTERS,
    MAX_ARTIFACTS,
    MAX_ARTIFACTS_BYTES,
    MAX_LEFT_OUT,
    Artifact,
    LeftOutFile,
)
from stigmer_contract.events import ArtifactsCollected
from stigmer_isolation.beneath import open_beneath

COLLECTING_SECONDS: Final = 120.0
"""After so long no further file is begun."""
_PIECE_BYTES: Final = 256 * 1024
_WILDCARD: Final = re.compile(r"[*?\[{\\]")


class _LeftOut(Exception):
    """A file is not collected; the message says why."""


@dataclass
class _Found:
    """What a walk came by: paths as the system has them."""

    paths: set[str] = field(default_factory=set[str])
    unmatched: list[str] = field(default_factory=list[str])
    unreadable: list[LeftOutFile] = field(default_factory=list[LeftOutFile])
    """Patterns that are none."""
    is_whole: bool = True


@functools.cache
def _turn_of(loop: asyncio.AbstractEventLoop) -> asyncio.Lock:
    """One file at a time: a large one takes as much of the memory that all sessions share."""
    return asyncio.Lock()


async def collect_artifacts(
    workspace: SessionWorkspace, patterns: Sequence[str], client: LegClient, masker: Masker
) -> list[ArtifactsCollected]:
    """Store the files that match, and say which; nothing where there are no patterns.

    Raises:
        AttemptSuperseded: another attempt has the execution.
    """
    if not patterns:
        return []
    deadline = time.monotonic() + COLLECTING_SECONDS
    collection = _Collection(client, masker)
    try:
        directory = await asyncio.to_thread(workspace.open_directory)
    except (OSError, WorkspaceError) as error:
        collection.leave_out(".", f"the workspace cannot be read: {error}")
        return [collection.event(_Found(is_whole=False))]
    try:
        found = await workspace.in_thread(lambda: _find(directory, patterns, deadline))
        for left_out in found.unreadable:
            collection.leave_out(left_out.path, left_out.reason)
        for path in sorted(found.paths, key=os.fsencode):
            async with _turn_of(asyncio.get_running_loop()):
                is_late = time.monotonic() > deadline
                await collection.take(directory, path, "there was no time left" if is_late else None)
    finally:
        os.close(directory)
    return [collection.event(found)]


class _Collection:
    """What was collected so far."""

    def __init__(self, client: LegClient, masker: Masker) -> None:
        self._client = client
        self._masker = masker
        self._files: dict[str, Artifact] = {}
        self._left_out: list[LeftOutFile] = []
        self._further = 0
        self._room = MAX_ARTIFACTS_BYTES

    async def take(self, directory: int, path: str, refusal: str | None) -> None:
        """Store a file; with a `refusal` it is left out."""
        shown = self._masker.mask(shown_name(path))
        try:
            if refusal is not None:
                raise _LeftOut(refusal)
            if len(shown) > MAX_ARTIFACT_PATH_CHARACTERS:
                raise _LeftOut(f"its path is longer than {MAX_ARTIFACT_PATH_CHARACTERS} characters")
            if shown in self._files:
                raise _LeftOut("another file is shown by the same name")
            if len(self._files) == MAX_ARTIFACTS:
                raise _LeftOut(f"there are {MAX_ARTIFACTS} already")
            content, is_masked = await asyncio.to_thread(
                _read, directory, path, self._masker, min(self._room, MAX_ARTIFACT_BYTES)
            )
            sha256 = await self._client.store_blob(content)
        except _LeftOut as error:
            self.leave_out(shown, str(error))
        except AttemptSuperseded:
            raise
        except ServerRefused as error:
            self.leave_out(shown, f"the server did not take it: {error}")
        except OSError as error:
            self.leave_out(shown, error.strerror or "it cannot be read")
        else:
            self._room -= len(content)
            self._files[shown] = Artifact(
                path=shown, sha256=sha256, size_bytes=len(content), masked=is_masked
            )

    def leave_out(self, shown: str, reason: str) -> None:
        """Note a file that is not collected."""
        if len(self._left_out) == MAX_LEFT_OUT:
            self._further += 1
            return
        path = shown if len(shown) <= MAX_ARTIFACT_PATH_CHARACTERS else shown[:200] + "…"
        self._left_out.append(LeftOutFile(path=path, reason=self._masker.mask(reason)[:500]))

    def event(self, found: _Found) -> ArtifactsCollected:
        """All of it."""
        return ArtifactsCollected(
            files=[self._files[path] for path in sorted(self._files)],
            left_out=self._left_out,
            further=self._further,
            unmatched=found.unmatched,
            is_whole=found.is_whole,
        )


def _find(directory: int, patterns: Sequence[str], deadline: float) -> _Found:
    found = _Found()
    for pattern in patterns:
        try:
            matches = _matcher(pattern)
        except InvalidGlob as error:
            found.unreadable.append(LeftOutFile(path=pattern, reason=f"the pattern cannot be read: {error}"))
            continue
        walk = FileWalk(directory, _literal_part(pattern), include_ignored=True, deadline=deadline)
        matched = {path for path in _paths_of(walk) if matches(shown_name(path))}
        if not matched:
            found.unmatched.append(pattern)
        found.paths |= matched
        found.is_whole = found.is_whole and walk.complete
    return found


def _paths_of(walk: FileWalk) -> Iterator[str]:
    try:
        for file in walk.files():
            yield file.path
    except OSError:  # nothing is there, or a link is on the way
        return


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Tells whether a path matches, or lies in a directory that does."""
    rooted = f"/{pattern.removeprefix('./')}"
    itself, inside = compile_glob(rooted), compile_glob(f"{rooted.rstrip('/')}/**")
    return lambda path: itself(path) or inside(path)


def _literal_part(pattern: str) -> str:
    """Where everything lies that can match."""
    parts = list[str]()
    for part in pattern.split("/"):
        if _WILDCARD.search(part):
            break
        if part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or "."


def _read(directory: int, path: str, masker: Masker, max_bytes: int) -> tuple[bytes, bool]:
    """The content of a file, masked, and whether something had to be. Blocks.

    Raises:
        _LeftOut: it is no regular file, or too large.
        OSError: it cannot be read; a link is on the way by now.
    """
    descriptor = open_beneath(directory, path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _LeftOut("it is no regular file")
        taken, given = hashlib.sha256(), io.BytesIO()
        for piece in _masked_pieces(file, MaskedStream(masker), taken.update):
            given.write(piece)
            if given.tell() > max_bytes:
                raise _LeftOut(_too_large(max_bytes))
        content = given.getvalue()
        return content, hashlib.sha256(content).digest() != taken.digest()


def _masked_pieces(file: BinaryIO, stream: MaskedStream, note: Callable[[bytes], None]) -> Iterator[bytes]:
    # Bytes that are no UTF-8 come out as they went in.
    decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
    while piece := file.read(_PIECE_BYTES):
        note(piece)
        yield stream.feed(decoder.decode(piece)).encode("utf-8", errors="surrogateescape")
    last = stream.feed(decoder.decode(b"", final=True)) + stream.finish()
    yield last.encode("utf-8", errors="surrogateescape")


def _too_large(max_bytes: int) -> str:
    if max_bytes == MAX_ARTIFACT_BYTES:
        return f"it is larger than {MAX_ARTIFACT_BYTES // 1024**2} MiB"
    return f"all files together would be larger than {MAX_ARTIFACTS_BYTES // 1024**2} MiB"
