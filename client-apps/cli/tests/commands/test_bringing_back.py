"""Paths of a directory are brought back to what a snapshot says, and nothing else is touched."""

import hashlib
from pathlib import Path

import pytest

from stigmer_cli.commands.bringing_back import bring_back, is_as
from stigmer_cli.errors import StigmerError
from stigmer_contract.snapshots import DirectoryEntry, Entry, FileEntry, LinkEntry, Piece

CONTENT = b"as it was\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = FileEntry(0o640, 1_000_000_001, len(CONTENT), SHA256, (Piece(SHA256, 0, len(CONTENT), False),))
ENTRIES: dict[str, Entry] = {
    "file": FILE,
    "folder": DirectoryEntry(0o750, 0),
    "folder/file": FILE,
    "link": LinkEntry(0, "nowhere"),
}


def load(sha256: str) -> bytes:
    assert sha256 == SHA256
    return CONTENT


def back(root: Path, *more: str) -> None:
    bring_back(root, ENTRIES, [*ENTRIES, *more], load)
    for path, entry in ENTRIES.items():
        assert is_as(root, path, entry), path


def test_what_is_missing_is_made(tmp_path: Path) -> None:
    back(tmp_path)
    status = (tmp_path / "folder" / "file").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 1_000_000_001)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder", "link"]
    back(tmp_path)  # once more changes nothing


def test_whatever_stands_in_its_place_goes(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    (tmp_path / "folder").write_text("a file", encoding="utf-8")
    (tmp_path / "link").write_text("a file", encoding="utf-8")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "made").touch()
    back(tmp_path, "new", "new/made")
    assert not (tmp_path / "new").exists()


def test_what_nobody_named_stays(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine").write_text("mine", encoding="utf-8")
    back(tmp_path, "new")
    assert (tmp_path / "new" / "mine").read_text(encoding="utf-8") == "mine"


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "folder").symlink_to(outside)
    assert not is_as(root, "folder/file", FILE)
    back(root)
    assert list(outside.iterdir()) == []


def test_a_link_that_was_not_named_keeps_what_is_behind_it(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "folder").symlink_to(outside)
    with pytest.raises(StigmerError):
        bring_back(root, ENTRIES, ["folder/file"], load)
    assert list(outside.iterdir()) == []


def test_a_blob_with_another_content_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(StigmerError):
        bring_back(tmp_path, ENTRIES, ["file"], lambda _sha256: b"another!!\n")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
