"""Large payloads as files named by their SHA-256. Knows no executions; what is to go, `retention` says.

A file appears under its name only when it is whole, checked and on disk, so whoever finds it can trust it.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

from pydantic import JsonValue, TypeAdapter

from stigmer_contract.api import BlobResource
from stigmer_contract.events import INLINE_PAYLOAD_MAX_BYTES, BlobPayload, InlinePayload, Payload
from stigmer_server.errors import DigestMismatch, InvalidRequest, NotFound, PayloadTooLarge, Unavailable

MAX_BLOB_BYTES: Final = 64 * 1024 * 1024
_JSON: Final[TypeAdapter[JsonValue]] = TypeAdapter(JsonValue)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class BlobStore:
    """The blobs of one directory, spread over 256 folders."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.write_problem: str | None = None
        """Why the newest blob was refused by the disk; None: it was not."""

    def prepare(self) -> None:
        """Make the directory.

        Raises:
            OSError: it cannot be made.
        """
        self._directory.mkdir(parents=True, exist_ok=True)

    async def store(self, sha256: str, chunks: AsyncIterator[bytes]) -> BlobResource:
        """Take in a blob; what is there already stays.

        Raises:
            InvalidRequest: `sha256` is not a digest.
            PayloadTooLarge: more than `MAX_BLOB_BYTES`.
            DigestMismatch: the bytes have another digest.
            Unavailable: the disk refuses.
        """
        path = self._path(sha256)
        try:
            blob = await self._receive(path, sha256, chunks)
        except OSError as error:
            self.write_problem = f"blobs cannot be written: {error.strerror}"
            raise Unavailable(f"could not store blob {sha256}: {error.strerror}") from error
        self.write_problem = None
        return blob

    async def try_to_write(self) -> None:
        """Find out whether the disk takes blobs again, with a file that does not stay."""
        try:
            await asyncio.to_thread(_write_and_remove, self._directory)
        except OSError as error:
            self.write_problem = f"blobs cannot be written: {error.strerror}"
        else:
            self.write_problem = None

    async def store_bytes(self, content: bytes) -> BlobResource:
        """Take in a blob under its own digest."""

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        return await self.store(hashlib.sha256(content).hexdigest(), chunks())

    async def store_all(self, contents: Mapping[str, bytes]) -> None:
        """Take in small blobs, each by its SHA-256.

        Raises:
            InvalidRequest, DigestMismatch, Unavailable: as `store`.
        """
        for sha256, content in contents.items():
            if (found := hashlib.sha256(content).hexdigest()) != sha256:
                raise DigestMismatch(sha256, found)
        paths = {self._path(sha256): content for sha256, content in contents.items()}
        try:
            await asyncio.to_thread(_write_all, self._directory, paths)
        except OSError as error:
            self.write_problem = f"blobs cannot be written: {error.strerror}"
            raise Unavailable(f"could not store blobs: {error.strerror}") from error
        self.write_problem = None

    async def wrap_text(self, text: str, *, room: int = 0) -> Payload:
        """What a person wrote, as `wrap_value`."""
        return await self.wrap_value(text, room=room)

    async def wrap_value(self, value: JsonValue, *, room: int = 0) -> Payload:
        """A value as a log holds it: inline, or as a blob where it is large.

        `room` so many bytes smaller than other payloads it has to be to stand inline.

        Raises:
            Unavailable: the disk refuses.
        """
        content = _JSON.dump_json(value)
        if len(content) <= INLINE_PAYLOAD_MAX_BYTES - room:
            return InlinePayload(value=value)
        blob = await self.store_bytes(content)
        return BlobPayload(sha256=blob.sha256, size_bytes=blob.size_bytes)

    def list_older(self, folder: str, before: float) -> list[str]:
        """The blobs of one of the 256 folders that were stored before a time (POSIX). Blocks."""
        found = list[str]()
        with contextlib.suppress(FileNotFoundError), os.scandir(self._directory / folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if _DIGEST.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_mtime < before:
                        found.append(entry.name)
        return found

    def remove_older(self, sha256: str, before: float) -> bool:
        """Remove a blob, unless it was stored again since that time (POSIX). Blocks."""
        path = self._path(sha256)
        doomed = self._directory / f".doomed-{sha256}"
        try:
            path.replace(doomed)
            if doomed.stat().st_mtime >= before:
                # Stored right before it was moved: whoever stored it finds it here.
                doomed.replace(path)
                return False
            doomed.unlink()
        except FileNotFoundError:
            return False
        return True

    async def measure(self) -> int:
        """How many bytes all blobs take; looks at each of them."""
        return await asyncio.to_thread(_measure, self._directory)

    def find(self, sha256: str) -> Path:
        """The file of a blob.

        Raises:
            InvalidRequest: `sha256` is not a digest.
            NotFound: there is no such blob.
        """
        path = self._path(sha256)
        if not path.is_file():
            raise NotFound("blob", sha256)
        return path

    def has(self, sha256: str) -> bool:
        """Whether there is a blob of that digest."""
        return self._path(sha256).is_file()

    async def _receive(self, path: Path, sha256: str, chunks: AsyncIterator[bytes]) -> BlobResource:
        digest, size_bytes = hashlib.sha256(), 0
        descriptor, name = tempfile.mkstemp(dir=self._directory, prefix=".incoming-")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                async for chunk in chunks:
                    size_bytes += len(chunk)
                    if size_bytes > MAX_BLOB_BYTES:
                        raise PayloadTooLarge("the blob", MAX_BLOB_BYTES)
                    digest.update(chunk)
                    file.write(chunk)
                if digest.hexdigest() != sha256:
                    raise DigestMismatch(sha256, digest.hexdigest())
                file.flush()
                await asyncio.to_thread(_publish, file.fileno(), temporary, path)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(temporary.unlink, missing_ok=True))
            raise
        return BlobResource(sha256=sha256, size_bytes=size_bytes)

    def _path(self, sha256: str) -> Path:
        if not _DIGEST.fullmatch(sha256):
            raise InvalidRequest(f"{sha256!r} is not a SHA-256 in lower-case hexadecimal digits")
        return self._directory / sha256[:2] / sha256


def _write_and_remove(directory: Path) -> None:
    with tempfile.TemporaryFile(dir=directory, prefix=".incoming-") as file:
        file.write(bytes(INLINE_PAYLOAD_MAX_BYTES))
        file.flush()
        os.fsync(file.fileno())


def _measure(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):  # it was just being made
                total += os.stat(os.path.join(folder, name)).st_size  # noqa: PTH116, PTH118 - a million of them
    return total


def _write_all(directory: Path, contents: Mapping[Path, bytes]) -> None:
    for path, content in contents.items():
        descriptor, name = tempfile.mkstemp(dir=directory, prefix=".incoming-")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                _publish(file.fileno(), temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _publish(descriptor: int, temporary: Path, path: Path) -> None:
    """Put a whole file under its name, so that it is there after a power cut too."""
    os.fsync(descriptor)
    try:
        temporary.replace(path)
    except FileNotFoundError:  # the first one of its folder
        path.parent.mkdir(exist_ok=True)
        temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
