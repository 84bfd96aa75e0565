"""The packs of agents as folders: unpacked once for each content, read-only for commands by being no grant.

They lie beside the sessions' directories, where no command gets by itself; whoever starts one that needs a
folder grants it that, for reading. Two runners on one disk may unpack the same one at once. A leg holds a
lock on the folders that it uses; of those that nobody uses the newest stay.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from stigmer_contract.errors import PackError
from stigmer_contract.packs import PackedFile, read_pack

PACKS: Final = ".packs"
"""In the runner's root: each folder by the digest of what is in it."""

MAX_KEPT_FOLDERS: Final = 64
MAX_KEPT_BYTES: Final = 1 << 30
"""Of all folders together. Those in use stay even beyond it."""
_NEW: Final = ".new-"
_OLD: Final = ".old-"
_LEFTOVER_SECONDS: Final = 86_400.0
"""After that long, nobody is still unpacking."""
_MAX_TRIES: Final = 100
_PAUSE_SECONDS: Final = 0.02
_SIZE: Final = "size"
"""File beside each folder's content that says how large it is; its time is that of the last use."""
_CONTENT: Final = "content"

LoadBlob = Callable[[str], Awaitable[bytes]]


class PackFolders:
    """The unpacked packs of a runner's root, for one leg."""

    def __init__(self, root: Path, load: LoadBlob) -> None:
        """`load` brings a blob by its SHA-256."""
        self._root = root
        self._load = load
        self._folders: dict[str, Path] = {}
        self._held: list[int] = []
        self._lock = asyncio.Lock()
        self._holding = threading.Lock()
        """A leg that is cancelled does not wait for the thread that opens a folder for it."""
        self._is_closed = False

    async def folder(self, packs: Mapping[str, str], *, max_bytes: int | None = None) -> Path:
        """The folder that holds packs, each beneath its name; the name `` is the folder itself.

        It stays until `close`.

        Args:
            packs: SHA-256 by name.
            max_bytes: of all together, one that has several names counting for each.

        Raises:
            PackError: one is damaged, or they are too large.
            ServerRefused: there is none of that digest.
            OSError: the disk refuses.
        """
        # Begins unlike those of runners that did not bound them: theirs lie otherwise.
        key = "2-" + hashlib.sha256(json.dumps(sorted(packs.items())).encode()).hexdigest()
        async with self._lock:
            if key not in self._folders:
                self._folders[key] = await self._open(key, packs, max_bytes)
        return self._folders[key]

    def close(self) -> None:
        """Let go of all folders, for good."""
        with self._holding:
            self._is_closed = True
            while self._held:
                os.close(self._held.pop())
        self._folders.clear()

    async def _open(self, key: str, packs: Mapping[str, str], max_bytes: int | None) -> Path:
        place = self._root.resolve() / PACKS / key
        if not await asyncio.to_thread(self._keep, lambda: _hold(place)):
            contents = await self._contents(packs, max_bytes)
            await asyncio.to_thread(self._keep, lambda: _unpack(place, packs, contents))
        return place / _CONTENT

    async def _contents(self, packs: Mapping[str, str], max_bytes: int | None) -> dict[str, bytes]:
        loaded = dict[str, bytes]()
        size_bytes = 0
        for digest in packs.values():
            if digest not in loaded:
                loaded[digest] = await self._load(digest)
            size_bytes += len(loaded[digest])
            if max_bytes is not None and size_bytes > max_bytes:
                raise PackError(f"its files have more than {max_bytes >> 20} MiB")
        return {name: loaded[digest] for name, digest in packs.items()}

    def _keep(self, hold: Callable[[], int | None]) -> bool:
        """Call what holds a folder, and keep its descriptor until `close`; whether there is one."""
        descriptor = hold()
        if descriptor is None:
            return False
        with self._holding:
            if self._is_closed:  # the leg has ended meanwhile
                os.close(descriptor)
            else:
                self._held.append(descriptor)
        return True


@asynccontextmanager
async def open_packs(root: Path, load: LoadBlob) -> AsyncGenerator[PackFolders]:
    """The packs of a root, for a leg; at its end it lets go of them."""
    packs = PackFolders(root, load)
    try:
        yield packs
    finally:
        packs.close()


def _hold(place: Path) -> int | None:
    """Keep a folder from being removed; None: there is none. Gives the descriptor that holds it."""
    try:
        descriptor = os.open(place / _SIZE, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        # Whoever removes one moves it away while nobody holds it; after that it is another one, or none.
        if os.path.samestat(os.fstat(descriptor), (place / _SIZE).stat()):
            os.utime(descriptor)
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass  # it is being removed
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _unpack(place: Path, packs: Mapping[str, str], contents: Mapping[str, bytes]) -> int:
    """Make the folder as a whole or not at all, and hold it."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=place.parent, prefix=_NEW))
    try:
        (new / _CONTENT).mkdir(mode=0o755)
        size = 0
        for name, content in contents.items():
            if hashlib.sha256(content).hexdigest() != packs[name]:
                raise PackError("it has another content than its digest says")
            for file in read_pack(content):
                size += len(file.content)
                _write(new / _CONTENT / name if name else new / _CONTENT, file)
        (new / _SIZE).write_text(f"{size}", encoding="ascii")
        new.chmod(0o755)
        _sync_folder(new)
        held = _put(new, place)
        _remove_unused(place.parent)
        return held
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _put(new: Path, place: Path) -> int:
    """Put a folder in its place, where another one may be by now, and hold the one that is there."""
    for _ in range(_MAX_TRIES):
        with contextlib.suppress(OSError):  # another runner was quicker
            new.rename(place)
        _sync_folder(place.parent)
        held = _hold(place)
        if held is not None:
            return held
        time.sleep(_PAUSE_SECONDS)  # that one is being removed
    raise OSError(f"the folder {str(place)!r} of a pack could not be made")


def _remove_unused(folder: Path) -> None:
    """Remove what was used longest ago, beyond what is kept; never what somebody holds."""
    count, size = 0, 0
    for place, used_at, size_bytes in sorted(_kept(folder), key=lambda each: each[1], reverse=True):
        count, size = count + 1, size + size_bytes
        if place.name.startswith((_NEW, _OLD)):
            is_over = used_at < time.time() - _LEFTOVER_SECONDS or place.name.startswith(_OLD)
        else:
            is_over = count > MAX_KEPT_FOLDERS or size > MAX_KEPT_BYTES
        if is_over and _remove(place):
            count, size = count - 1, size - size_bytes


def _kept(folder: Path) -> "list[tuple[Path, float, int]]":
    """Each folder, when it was used last, and how large it is."""
    found = list[tuple[Path, float, int]]()
    for place in folder.iterdir():
        with contextlib.suppress(OSError, ValueError):
            about = place / _SIZE
            if about.exists():
                found.append((place, about.stat().st_mtime, int(about.read_text(encoding="ascii"))))
            else:  # not ready, half removed, or of a runner before these were bounded
                found.append((place, place.stat().st_mtime, 0))
    return found


def _remove(place: Path) -> bool:
    """Whether it could be removed: nobody holds it."""
    try:
        descriptor = os.open(place / _SIZE, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        shutil.rmtree(place, ignore_errors=True)
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), (place / _SIZE).stat()):
            return False  # another runner has removed it, and somebody may hold the one that is there now
        moved = place.with_name(f"{_OLD}{place.name}")
        place.rename(moved)
        shutil.rmtree(moved, ignore_errors=True)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


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
