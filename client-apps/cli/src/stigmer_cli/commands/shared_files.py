"""Reads and writes files in folders where agents may work as well, and so may have left links and devices."""

import contextlib
import os
import secrets
import stat
from pathlib import Path

from stigmer_cli.errors import StigmerError

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Of a manifest or a cassette."""


_OWN_DESCRIPTORS = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
"""What the person's shell gave: `<(command)`. Its pipes are read to their end, whoever writes there."""


def read_file(path: Path) -> bytes:
    """The content of a file; of a pipe that the person's shell made, until its end.

    Raises:
        OSError: it cannot be read, has no end in sight, or is something that would be waited for.
    """
    is_given = str(path).startswith(_OWN_DESCRIPTORS)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC | (0 if is_given else os.O_NONBLOCK))
    with os.fdopen(descriptor, "rb") as stream:
        mode = os.fstat(descriptor).st_mode
        if not (is_given or stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(0, "it is not a file")
        content = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise OSError(0, f"it is larger than {MAX_FILE_BYTES // 1024**2} MiB")
    return content


def replace_file(path: Path, text: str) -> None:
    """Writes the whole file or nothing. A symbolic link of that name is replaced, never followed.

    Raises:
        StigmerError: it cannot be written.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
            new.replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                new.unlink()
    except OSError as error:
        raise StigmerError(f"could not write {str(path)!r}: {error.strerror}") from error
