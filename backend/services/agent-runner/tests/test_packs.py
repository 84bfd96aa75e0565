"""Folders of packs: made once, never removed under whoever uses them, and not kept for ever."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest

from agent_runner.workspace import PackFolders, open_packs, packs
from stigmer_contract.errors import PackError
from stigmer_contract.packs import PackedFile, write_pack

KEPT = 2


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "MAX_KEPT_FOLDERS", KEPT)


def pack_of(text: str) -> bytes:
    return write_pack([PackedFile("text", text.encode(), False)])


async def load(sha256: str) -> bytes:
    return next(pack for pack in map(pack_of, "abcdefgh") if hashlib.sha256(pack).hexdigest() == sha256)


async def folder_of(folders: PackFolders, text: str) -> Path:
    return await folders.folder({"": hashlib.sha256(pack_of(text)).hexdigest()})


def used_in_order(*folders: Path) -> None:
    for age, folder in enumerate(reversed(folders)):
        os.utime(folder.parent / "size", (1_000_000 - age, 1_000_000 - age))


async def test_of_what_nobody_uses_the_newest_stay(tmp_path: Path) -> None:
    async with open_packs(tmp_path, load) as folders:
        a, b, c = [await folder_of(folders, text) for text in "abc"]
    used_in_order(b, a, c)

    async with open_packs(tmp_path, load) as folders:
        d = await folder_of(folders, "d")

    assert [each.is_dir() for each in (a, b, c, d)] == [False, False, True, True]
    assert len(list((tmp_path / ".packs").iterdir())) == KEPT


async def test_a_pack_of_many_names_is_loaded_once_and_counts_for_each(tmp_path: Path) -> None:
    pack, loaded = pack_of("a"), list[str]()
    digest = hashlib.sha256(pack).hexdigest()

    async def note_and_load(sha256: str) -> bytes:
        loaded.append(sha256)
        return await load(sha256)

    async with open_packs(tmp_path, note_and_load) as folders:
        names = {f"copy-{n}": digest for n in range(10)}
        with pytest.raises(PackError, match="have more than"):
            await folders.folder(names, max_bytes=10 * len(pack) - 1)
        assert not (tmp_path / ".packs").exists()
        folder = await folders.folder(names, max_bytes=10 * len(pack))
    assert loaded == [digest, digest]
    assert sorted(each.name for each in folder.iterdir()) == sorted(names)


async def test_what_a_leg_uses_stays_until_its_end(tmp_path: Path) -> None:
    async with open_packs(tmp_path, load) as folders:
        used = [await folder_of(folders, text) for text in "abc"]
        used_in_order(*used)
        async with open_packs(tmp_path, load) as others:
            [await folder_of(others, text) for text in "defg"]
        assert all((each / "text").is_file() for each in used)

    async with open_packs(tmp_path, load) as folders:
        await folder_of(folders, "h")

    assert not any(each.exists() for each in used)


async def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    for text in "abcda":
        async with open_packs(tmp_path, load) as folders:
            folder = await folder_of(folders, text)
            assert (folder / "text").read_text(encoding="utf-8") == text


async def test_a_folder_that_another_runner_made_anew_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_packs(tmp_path, load) as folders:
        a, b = [await folder_of(folders, text) for text in "ab"]
    used_in_order(a, b)
    lock = fcntl.flock

    def lock_too_late(descriptor: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX:
            shutil.copytree(a.parent, tmp_path / "anew")
            shutil.rmtree(a.parent)
            (tmp_path / "anew").rename(a.parent)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lock_too_late)
    async with open_packs(tmp_path, load) as folders:
        await folder_of(folders, "c")

    assert (a / "text").read_text(encoding="utf-8") == "a"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists open files in a directory")
async def test_a_leg_that_is_cancelled_while_it_opens_a_folder_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held() -> list[str]:
        names = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
        return [name for name in names if name.startswith(str(tmp_path))]

    begun, may_go_on, lock = threading.Event(), threading.Event(), fcntl.flock

    def lock_slowly(descriptor: int, operation: int) -> None:
        lock(descriptor, operation)
        if operation & fcntl.LOCK_SH:
            begun.set()
            assert may_go_on.wait(120)

    monkeypatch.setattr(fcntl, "flock", lock_slowly)
    async with open_packs(tmp_path, load) as folders:
        opening = asyncio.create_task(folder_of(folders, "a"))
        assert await asyncio.to_thread(begun.wait, 120)
        opening.cancel()
        await asyncio.wait([opening])
    assert opening.cancelled() and len(held()) == 1
    may_go_on.set()
    deadline = asyncio.get_running_loop().time() + 120
    while held():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


async def test_what_runners_before_left_behind_goes_too(tmp_path: Path) -> None:
    for name in ("old", ".new-x", ".old-y"):
        (tmp_path / ".packs" / name).mkdir(parents=True)
        os.utime(tmp_path / ".packs" / name, (1, 1))

    async with open_packs(tmp_path, load) as folders:
        [await folder_of(folders, text) for text in "ab"]

    assert sorted(each.name[:2] for each in (tmp_path / ".packs").iterdir()) == ["2-", "2-"]
