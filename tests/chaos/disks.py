"""Small disks that can be filled: file systems in memory, where the machine allows to mount them."""

import contextlib
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_CHUNK: Final = b"\0" * 1024 * 1024
_FILLER: Final = "filler"


class Disk:
    """A directory with a file system of its own, or a plain one where none can be mounted."""

    def __init__(self, path: Path, size_megabytes: int) -> None:
        """Mounts nothing yet; `path` does not exist."""
        self.path = path
        self._size_megabytes = size_megabytes
        self.is_own = False
        """Whether it can be filled without harm to others."""

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True)
        mount = shutil.which("mount")
        if mount is not None:
            size = f"size={self._size_megabytes}m"
            mounted = subprocess.run(
                [mount, "-t", "tmpfs", "-o", size, "tmpfs", str(self.path)], capture_output=True, check=False
            )
            self.is_own = mounted.returncode == 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.empty()
        if self.is_own:
            subprocess.run(["umount", "--lazy", str(self.path)], capture_output=True, check=True)

    def fill(self) -> None:
        """Leave no room."""
        assert self.is_own
        with contextlib.suppress(OSError), (self.path / _FILLER).open("wb", buffering=0) as file:
            while file.write(_CHUNK):
                pass

    def empty(self) -> None:
        """Give the room back."""
        (self.path / _FILLER).unlink(missing_ok=True)
