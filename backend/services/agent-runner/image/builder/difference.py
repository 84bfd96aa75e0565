"""Removes from a tree of files what another has just so, to leave what makes a layer over that one."""

import filecmp
import stat
import sys
from pathlib import Path


def main() -> None:
    tree, other = map(Path, sys.argv[1:])
    leave_the_new(tree, other)


def leave_the_new(directory: Path, other: Path) -> None:
    """In a directory and all that are in it; those that are empty then go, too."""
    for entry in list(directory.iterdir()):
        beside = other / entry.name
        if is_directory(entry) and is_directory(beside):
            leave_the_new(entry, beside)
            if not any(entry.iterdir()):
                entry.rmdir()
        elif is_the_same(entry, beside):
            entry.unlink()


def is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def is_the_same(path: Path, other: Path) -> bool:
    """Whether both are the same link, or files with the same content, mode and owner."""
    if path.is_symlink() or other.is_symlink():
        return path.is_symlink() and other.is_symlink() and path.readlink() == other.readlink()
    if not path.is_file() or not other.is_file():
        return False
    found, expected = path.stat(), other.stat()
    return (
        stat.S_IMODE(found.st_mode) == stat.S_IMODE(expected.st_mode)
        and (found.st_uid, found.st_gid, found.st_size)
        == (expected.st_uid, expected.st_gid, expected.st_size)
        and filecmp.cmp(path, other, shallow=False)
    )


if __name__ == "__main__":
    main()
