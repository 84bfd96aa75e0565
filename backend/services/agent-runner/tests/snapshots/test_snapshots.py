"""Snapshots of workspaces: what was taken comes back as it was, and costs what has changed."""

import hashlib
import itertools
import os
import random
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_runner.snapshots import SnapshotTaker, Taken, TooMuch, WalkRules, taking
from random_trees import RandomTree, State, state_of
from stigmer_contract.snapshots import FileEntry, load_chain, provide, restore_in_place, restore_tree

WORKSPACES = 20
SNAPSHOTS = 25
REWINDS = 50
REWINDS_IN_PLACE = 20


class Store:
    """Blobs in memory, and a workspace that snapshots are taken of."""

    def __init__(self, root: Path, rules: WalkRules | None = None) -> None:
        self.root = root
        self.blobs: dict[str, bytes] = {}
        self.size_bytes = 0
        self.taker = SnapshotTaker(rules)
        root.mkdir(exist_ok=True)

    def take(self) -> Taken:
        work = self.taker.take(lambda: os.open(self.root, os.O_RDONLY | os.O_DIRECTORY))
        while True:
            try:
                content = next(work)
            except StopIteration as end:
                taken: Taken = end.value
                return taken
            self.size_bytes += len(content)
            self.blobs[hashlib.sha256(content).hexdigest()] = content

    def begin_anew(self, listing: str) -> None:
        """As another leg does, which knows the blobs alone."""
        self.taker = SnapshotTaker()
        self.taker.go_on_from(listing, provide(load_chain(listing), self.blobs.__getitem__))

    def rewind(self, listing: str, stop_after: int | None = None) -> None:
        """Bring the workspace back, as a leg does; with `stop_after`: to crash behind so many packs."""
        self.take()
        before = self.taker.entries
        entries = provide(load_chain(listing), self.blobs.__getitem__).entries
        paths = [path for path in {*before, *entries} if before.get(path) != entries.get(path)]
        root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        work = restore_in_place(root, entries, paths)
        try:
            wanted = next(work)
            for number in itertools.count():
                if number == stop_after:
                    work.close()
                    return
                wanted = work.send(self.blobs[wanted])
        except StopIteration:
            return
        finally:
            os.close(root)

    def restore(self, listing: str, into: Path) -> Path:
        into.mkdir()
        root = os.open(into, os.O_RDONLY | os.O_DIRECTORY)
        try:
            chain = provide(load_chain(listing), self.blobs.__getitem__)
            provide(restore_tree(chain.entries, root), self.blobs.__getitem__)
        finally:
            os.close(root)
        return into


@pytest.mark.parametrize("seed", range(WORKSPACES))
def test_every_moment_of_a_workspace_comes_back_by_hash_mode_and_time(tmp_path: Path, seed: int) -> None:
    store, chance = Store(tmp_path / "workspace"), random.Random(seed)
    tree = RandomTree(store.root, seed)
    moments: list[tuple[str, State]] = []
    for _ in range(SNAPSHOTS):
        tree.change(chance.choice((0, 1, 3, 12)))
        if chance.random() < 0.1 and moments:
            store.begin_anew(moments[-1][0])
        moments.append((store.take().listing, state_of(store.root)))
    for number in range(REWINDS):
        listing, state = chance.choice(moments)
        assert state_of(store.restore(listing, tmp_path / f"rewind-{number}")) == state


@pytest.mark.parametrize("seed", range(1, WORKSPACES, 3))
def test_a_workspace_is_brought_back_in_place_to_every_moment(tmp_path: Path, seed: int) -> None:
    store, chance = Store(tmp_path / "workspace"), random.Random(seed)
    tree = RandomTree(store.root, seed)
    moments: list[tuple[str, State]] = []
    for _ in range(SNAPSHOTS):
        tree.change(chance.choice((0, 1, 3, 12)))
        moments.append((store.take().listing, state_of(store.root)))
    for _ in range(REWINDS_IN_PLACE):
        listing, state = chance.choice(moments)
        if chance.random() < 0.3:
            tree.change(5)  # what was done since, and is in no snapshot yet
        if chance.random() < 0.3:
            store.rewind(listing, stop_after=chance.randrange(3))
        store.rewind(listing)
        assert state_of(store.root) == state


def test_closed_folders_and_what_no_snapshot_knows_are_no_hindrance_in_place(tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace", WalkRules(left_out_names=frozenset({"node_modules"})))
    closed = store.root / "closed"
    (closed / "inner").mkdir(parents=True)
    (closed / "inner" / "file").write_text("one", encoding="utf-8")
    closed.chmod(0o500)
    listing, state = store.take().listing, state_of(store.root)
    closed.chmod(0o700)
    (closed / "inner" / "file").write_text("two", encoding="utf-8")
    (closed / "inner").chmod(0o100)
    (closed / "new").write_text("new", encoding="utf-8")
    closed.chmod(0o500)
    added = store.root / "added" / "node_modules"
    added.mkdir(parents=True)
    (added / "index.js").touch()
    (store.root / "added" / "link").symlink_to("/nonexistent/passwd")
    store.rewind(listing)
    assert (added / "index.js").exists()
    shutil.rmtree(store.root / "added")
    top = store.root.stat()
    assert {path: what for path, what in state_of(store.root).items() if path} == {
        path: what for path, what in state.items() if path
    }
    assert stat.S_IMODE(top.st_mode) == state[b""][1]


def test_a_repository_comes_back_and_git_sees_nothing_changed(tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace")

    def git(*arguments: str, root: Path = store.root) -> str:
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True
        )
        return done.stdout

    git("init", "-q")
    moments: list[tuple[str, str]] = []
    for number in range(4):
        (store.root / f"{number}.txt").write_text(f"{number}\n" * 100, encoding="utf-8")
        git("add", ".")
        git("commit", "-q", "-m", f"number {number}")
        moments.append((store.take().listing, git("rev-parse", "HEAD")))
    for number, (listing, head) in enumerate(moments):
        again = store.restore(listing, tmp_path / f"again-{number}")
        assert git("rev-parse", "HEAD", root=again) == head
        assert git("status", "--porcelain", root=again) == ""
        assert "error" not in git("fsck", "--strict", root=again)


def test_other_bytes_of_the_same_size_and_time_within_one_tick_of_the_clock_are_seen(tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace")
    file = store.root / "counter"
    for number in range(200):
        content = f"{number:06}".encode()
        file.write_bytes(content)
        os.utime(file, ns=(0, 0))
        chain = provide(load_chain(store.take().listing), store.blobs.__getitem__)
        entry = chain.entries["counter"]
        assert isinstance(entry, FileEntry)
        assert entry.sha256 == hashlib.sha256(content).hexdigest()


def test_a_snapshot_of_an_unchanged_workspace_is_the_one_before_and_stores_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace")
    (store.root / "a").write_text("a", encoding="utf-8")
    first = store.take()
    stored = store.size_bytes
    second = store.take()
    store.begin_anew(second.listing)
    third = store.take()
    assert (first.changed, second.changed, third.changed) == (2, 0, 0)
    assert first.listing == second.listing == third.listing
    assert store.size_bytes == stored


def test_a_thousand_snapshots_take_what_has_changed_and_little_more(tmp_path: Path) -> None:
    store, chance = Store(tmp_path / "workspace"), random.Random(1)
    for number in range(300):
        (store.root / f"{number}.bin").write_bytes(chance.randbytes(2_000))
    first = store.take()
    before, changed_bytes = store.size_bytes, 0
    for _ in range(1_000):
        content = chance.randbytes(chance.randrange(1, 10_000))
        (store.root / f"{chance.randrange(300)}.bin").write_bytes(content)
        changed_bytes += len(content)
        store.take()
    assert first.entries == 301
    assert store.size_bytes - before <= 1.3 * (changed_bytes + 1_000 * 4096)


def test_a_file_that_was_there_before_is_not_stored_again_under_another_name(tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace")
    content = random.Random(2).randbytes(3_000_000)
    (store.root / "a").write_bytes(content)
    store.take()
    stored = store.size_bytes
    (store.root / "a").rename(store.root / "b")
    (store.root / "c").write_bytes(content)
    taken = store.take()
    assert store.size_bytes - stored < 2_000
    assert state_of(store.restore(taken.listing, tmp_path / "again")) == state_of(store.root)


def test_sockets_and_pipes_are_named_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "workspace")
    os.mkfifo(store.root / "pipe")
    monkeypatch.chdir(store.root)  # the paths of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    (store.root / "kept").write_text("kept", encoding="utf-8")
    taken = store.take()
    assert taken.left_out == [("pipe", "it is a pipe"), ("socket", "it is a socket")]
    assert sorted(path.name for path in store.restore(taken.listing, tmp_path / "again").iterdir()) == [
        "kept"
    ]


def test_folders_that_are_left_out_are_named_wherever_they_are(tmp_path: Path) -> None:
    rules = WalkRules(left_out=frozenset({".git/objects"}), left_out_names=frozenset({"node_modules"}))
    store = Store(tmp_path / "workspace", rules)
    for folder in (".git/objects", ".git/refs", "web/node_modules", "web/.git/objects"):
        (store.root / folder).mkdir(parents=True)
        (store.root / folder / "file").write_text(folder, encoding="utf-8")
    taken = store.take()
    again = store.restore(taken.listing, tmp_path / "again")
    assert [each.path for each in taken.left_out] == [".git/objects", "web/node_modules"]
    assert sorted(str(path.relative_to(again)) for path in again.rglob("file")) == [
        ".git/refs/file",
        "web/.git/objects/file",
    ]


def test_a_workspace_over_the_limits_is_refused_and_the_next_snapshot_is_whole(tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace", WalkRules(max_entries=10, max_bytes=1_000))
    (store.root / "a").write_bytes(b"a")
    store.take()
    (store.root / "large").write_bytes(bytes(1_001))
    with pytest.raises(TooMuch):
        store.take()
    (store.root / "large").unlink()
    for number in range(10):
        (store.root / f"{number}").touch()
    with pytest.raises(TooMuch):
        store.take()
    (store.root / "9").unlink()
    (store.root / "8").unlink()
    taken = store.take()
    assert state_of(store.restore(taken.listing, tmp_path / "again")) == state_of(store.root)


def test_what_is_left_out_counts_too_for_it_takes_memory_as_well(tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace", WalkRules(max_entries=10))
    for number in range(11):
        os.mkfifo(store.root / f"pipe-{number}")
    with pytest.raises(TooMuch):
        store.take()


@pytest.mark.parametrize(("size", "is_kept"), [(1_000, True), (3 << 20, False)])
def test_a_file_that_never_comes_to_rest_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, is_kept: bool
) -> None:
    store = Store(tmp_path / "workspace")
    file = store.root / "busy"
    file.write_bytes(bytes(size))
    digest_of: Callable[[int], tuple[int, str, bytes | None]] = taking.digest_of

    def read_and_change(descriptor: int) -> tuple[int, str, bytes | None]:
        found = digest_of(descriptor)
        with file.open("r+b") as changed:
            changed.write(random.randbytes(1_000))
        os.utime(file, ns=(random.randrange(10**9), random.randrange(10**9)))
        return found

    monkeypatch.setattr(taking, "digest_of", read_and_change)
    taken = store.take()
    assert taken.unsettled == 1
    assert ("busy" in provide(load_chain(taken.listing), store.blobs.__getitem__).entries) is is_kept
    monkeypatch.undo()
    settled = store.take()
    assert settled.unsettled == 0
    assert state_of(store.restore(settled.listing, tmp_path / "again")) == state_of(store.root)


def test_what_is_given_up_half_way_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "workspace")
    (store.root / "a").write_text("a", encoding="utf-8")
    store.take()
    (store.root / "a").write_text("b", encoding="utf-8")
    work = store.taker.take(lambda: os.open(store.root, os.O_RDONLY | os.O_DIRECTORY))
    next(work)
    work.close()
    taken = store.take()
    assert taken.changed == 1
    assert state_of(store.restore(taken.listing, tmp_path / "again")) == state_of(store.root)
