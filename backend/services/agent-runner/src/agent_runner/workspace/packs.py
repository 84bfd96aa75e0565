"""The packs of agents as folders: unpacked once for each content, read-only for commands by being no grant.

They lie beside the sessions' directories, where no command gets by itself; whoever starts one that needs a
folder grants it that, for reading. Two runners on one disk may unpack the same one at once.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from stigmer_contract.errors import PackError
from stigmer_contract.packs import PackedFile, read_pack

PACKS: Final = ".packs"
"""In the runner's root: each folder by the digest of what is in it."""

LoadBlob = Callable[[str], Awaitable[bytes]]


class PackFolders:
    """The unpacked packs of a runner's root, for one leg."""

    def __init__(self, root: Path, load: LoadBlob) -> None:
        """`load` brings a blob by its SHA-256."""
        self._root = root
        self._load = load
        self._folders: dict[str, Path] = {}
        self._lock = asyncio.Lock()

    async def folder(self, packs: Mapping[str, str]) -> Path:
        """The folder that holds packs, each beneath its name; the name `` is the folder itself.

        Args:
            packs: SHA-256 by name.

        Raises:
            PackError: one is damaged.
            ServerRefused: there is none of that digest.
            OSError: the disk refuses.
        """
        key = hashlib.sha256(json.dumps(sorted(packs.items())).encode()).hexdigest()
        async with self._lock:
            if key not in self._folders:
                self._folders[key] = await self._open(key, packs)
        return self._folders[key]

    async def _open(self, key: str, packs: Mapping[str, str]) -> Path:
        folder, is_there = await asyncio.to_thread(_find, self._root, key)
        if not is_there:
            contents = {name: await self._load(digest) for name, digest in packs.items()}
            await asyncio.to_thread(_unpack, folder, packs, contents)
        return folder


def _find(root: Path, key: str) -> tuple[Path, bool]:
    folder = root.resolve() / PACKS / key
    return folder, folder.is_dir()


def _unpack(folder: Path, packs: Mapping[str, str], contents: Mapping[str, bytes]) -> None:
    """Make the folder as a whole or not at all."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
    try:
        for name, content in contents.items():
            if hashlib.sha256(content).hexdigest() != packs[name]:
                raise PackError("it has another content than its digest says")
            for file in read_pack(content):
                _write(new / name if name else new, file)
        new.chmod(0o755)
        _sync_folder(new)
        with contextlib.suppress(OSError):  # another runner was quicker
            new.rename(folder)
        _sync_folder(folder.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _write(folder: Path, file: PackedFile) -> None:
    path = folder / file.path
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    mode = 0o555 if file.is_executable else 0o444
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(file.content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
