"""Watched workspaces: what a watch lets a snapshot skip is what a walk would have found unchanged."""

import mmap
import os
import random
import resource
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from agent_runner.snapshots import SnapshotTaker, Taken, WalkRules, tree_walk, tree_watch
from agent_runner.snapshots.tree_watch import SHARES, TreeWatch
from random_trees import RandomTree
from stigmer_contract.snapshots import Entry, FileEntry

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")

TREES = 8
LOOKS = 50


class Watched:
    """A workspace that is watched, and what its snapshots found."""

    def __init__(self, root: Path, rules: WalkRules | None = None) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        self.rules = rules
        self.taker = SnapshotTaker(rules, watches_from=0)
        self.walked = 0

    def open(self) -> int:
        return os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)

    def take(self) -> Taken:
        found = self.taker.unchanged(self.open)
        return found if found is not None else taken_by(self.taker, self.root)

    def entries(self) -> dict[str, Entry]:
        self.take()
        return bare(self.taker.entries)

    def by_walking(self) -> dict[str, Entry]:
        taker = SnapshotTaker(self.rules)
        taken_by(taker, self.root)
        return bare(taker.entries)


def taken_by(taker: SnapshotTaker, root: Path) -> Taken:
    work = taker.take(lambda: os.open(root, os.O_RDONLY | os.O_DIRECTORY))
    while True:
        try:
            next(work)
        except StopIteration as end:
            taken: Taken = end.value
            return taken


def bare(entries: dict[str, Entry]) -> dict[str, Entry]:
    """Without where contents lie, which depends on what was there before."""
    return {
        path: entry._replace(pieces=()) if isinstance(entry, FileEntry) else entry
        for path, entry in entries.items()
    }


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that were listed."""
    listed: list[str] = []
    of = tree_walk._Walker._walk_folder  # pyright: ignore[reportPrivateUsage]

    def note(self: tree_walk._Walker, folder: int, path: str, depth: int) -> None:  # pyright: ignore[reportPrivateUsage]
        listed.append(path)
        of(self, folder, path, depth)

    monkeypatch.setattr(tree_walk._Walker, "_walk_folder", note)  # pyright: ignore[reportPrivateUsage]
    return listed


@pytest.fixture(autouse=True)
def _no_watch_is_left() -> Generator[None]:
    yield
    assert SHARES.in_use == (0, 0)


@pytest.mark.parametrize("seed", range(TREES))
def test_a_watched_workspace_is_found_as_a_walk_finds_it(tmp_path: Path, seed: int) -> None:
    watched, chance = Watched(tmp_path / "workspace"), random.Random(seed)
    tree = RandomTree(watched.root, seed)
    tree.change(40)
    watched.take()
    for _ in range(LOOKS):
        tree.change(chance.choice((0, 0, 1, 1, 2, 10)))
        if chance.random() < 0.05:  # a snapshot that is given up
            next(watched.taker.take(watched.open), None)
        assert watched.entries() == watched.by_walking()
    watched.taker.close()


def large_tree(root: Path) -> None:
    for folder in ("a", "a/deep", "b", "c"):
        (root / folder).mkdir(parents=True)
        for number in range(5):
            (root / folder / f"{number}.txt").write_text(f"{folder} {number}", encoding="utf-8")


@pytest.fixture
def watched(tmp_path: Path) -> Generator[Watched]:
    made = Watched(tmp_path / "workspace")
    large_tree(made.root)
    made.take()
    made.take()
    yield made
    made.taker.close()


def test_nothing_is_listed_where_nothing_was_touched(watched: Watched, walks: list[str]) -> None:
    walks.clear()
    first = watched.take()
    assert (watched.take(), first.changed, walks) == (first, 0, [])


def test_only_the_folder_that_was_touched_is_listed(watched: Watched, walks: list[str]) -> None:
    (watched.root / "a" / "deep" / "0.txt").write_text("other", encoding="utf-8")
    walks.clear()
    taken = watched.take()
    assert (walks, taken.changed) == (["a/deep"], 1)
    assert watched.entries() == watched.by_walking()


def test_new_folders_are_watched_from_their_first_listing_on(watched: Watched, walks: list[str]) -> None:
    shutil.copytree(watched.root / "a", watched.root / "new" / "inner")
    watched.take()
    (watched.root / "new" / "inner" / "deep" / "0.txt").write_text("other", encoding="utf-8")
    walks.clear()
    assert (watched.take().changed, walks) == (1, ["new/inner/deep"])
    assert watched.entries() == watched.by_walking()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("mv a b/moved", id="a folder is moved"),
        pytest.param("mv a aside && mv b a && mv aside b", id="two folders are exchanged"),
        pytest.param("mv a ../gone && mkdir a && echo new > a/0.txt", id="another takes its place"),
        pytest.param("rm -r a && mkdir -p a/deep && echo new > a/deep/0.txt", id="it is made anew"),
        pytest.param("mv a ../gone && ln -s b a", id="a link takes its place"),
        pytest.param("mv a A", id="case changes"),
        pytest.param("chmod 700 a/deep && touch -h -d @1 a", id="modes and times"),
        pytest.param("ln a/0.txt c/linked && echo through > c/linked", id="a new name for a file"),
        pytest.param("rm -r a b c", id="everything goes"),
        pytest.param("mv a ../gone && echo late > ../gone/deep/0.txt && mv ../gone a", id="away and back"),
        pytest.param("truncate -s 5M b/sparse && fallocate -l 100 b/0.txt", id="sparse files"),
        pytest.param("for n in $(seq 400); do echo $n > c/$n; : > b/0.txt; done", id="many events"),
    ],
)
def test_whatever_a_command_does_is_seen(watched: Watched, change: str) -> None:
    for _ in range(2):
        subprocess.run(["/bin/sh", "-c", change], cwd=watched.root, check=False, capture_output=True)
        assert watched.entries() == watched.by_walking()
    (watched.root / "at-the-end").touch()
    assert watched.entries() == watched.by_walking()


def test_a_file_with_two_names_is_looked_at_every_time(watched: Watched) -> None:
    outside = watched.root.parent / "outside"
    outside.hardlink_to(watched.root / "a" / "0.txt")
    (watched.root / "a" / "1.txt").touch()  # so that the second name is met
    watched.take()
    outside.write_text("through the other name", encoding="utf-8")
    assert watched.entries() == watched.by_walking()


def test_what_is_written_through_memory_is_seen_once_the_writer_has_ended(watched: Watched) -> None:
    writer = textwrap.dedent("""
        import mmap, os
        descriptor = os.open("b/0.txt", os.O_RDWR)
        memory = mmap.mmap(descriptor, 0)
        os.close(descriptor)
        memory[0:1] = b"X"
    """)
    subprocess.run([sys.executable, "-c", writer], cwd=watched.root, check=True)
    assert (watched.root / "b" / "0.txt").read_bytes()[:1] == b"X"
    assert watched.entries() == watched.by_walking()


def test_a_mapping_that_stays_open_is_seen_by_the_next_walk(watched: Watched) -> None:
    with (watched.root / "b" / "0.txt").open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    memory[0:1] = b"Y"
    watched.taker.close()
    assert watched.entries() == watched.by_walking()
    memory.close()


def test_a_queue_that_ran_over_leads_to_a_walk_and_a_watch_anew(watched: Watched, walks: list[str]) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
    if most > 100_000:
        pytest.skip("the queue is too long to be filled here")
    first, second = (watched.root / "c" / name for name in ("0.txt", "1.txt"))
    for number in range(most // 2 + 1):  # the same twice in a row would be one event
        first.chmod(0o600 + number % 2)
        second.chmod(0o600 + number % 2)
    (watched.root / "a" / "0.txt").write_text("lost among the others", encoding="utf-8")
    walks.clear()
    watched.take()
    assert sorted(walks) == ["", "a", "a/deep", "b", "c"]
    walks.clear()
    assert watched.entries() == watched.by_walking()
    assert len(walks) == 5  # of the comparison alone


@pytest.mark.parametrize(
    ("limit", "value"), [("max_user_watches", 32), ("max_user_instances", 0), ("max_user_watches", 0)]
)
def test_where_watches_do_not_suffice_all_is_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    of = tree_watch._limit  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(tree_watch, "_limit", lambda name: value if name == limit else of(name))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    short = Watched(tmp_path / "workspace")
    large_tree(short.root)
    for number in range(3):
        (short.root / "b" / "0.txt").write_text(f"{number}", encoding="utf-8")
        assert short.entries() == short.by_walking()
        assert SHARES.in_use == (0, 0)


@pytest.mark.parametrize("are_limits_known", [True, False])
def test_where_no_descriptor_is_left_for_a_watch_it_is_refused_and_the_next_one_is_not(
    tmp_path: Path, are_limits_known: bool
) -> None:
    tree_watch._read_limit.cache_clear()  # pyright: ignore[reportPrivateUsage]
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    if are_limits_known:
        TreeWatch(root).close()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (root + 1, hard))
    try:
        watch = TreeWatch(root)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    later = TreeWatch(root)
    os.close(root)
    assert (watch.is_open, watch.is_refused) == (False, True)
    assert (later.is_open, later.is_refused) == (True, False)
    later.close()


def test_one_workspace_has_its_share_of_watches_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_watch, "_limit", lambda _: 32 * 10)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    modest, greedy = Watched(tmp_path / "modest"), Watched(tmp_path / "greedy")
    large_tree(modest.root)
    for number in range(11):
        (greedy.root / f"{number}").mkdir(parents=True)
    for each in (modest, greedy):
        each.take()
        each.take()
    assert SHARES.in_use == (1, 5)  # the modest one's
    for each in (modest, greedy):
        (each.root / "new").touch()
        assert each.entries() == each.by_walking()
        each.taker.close()


def test_a_watch_holds_neither_a_folder_nor_a_leg(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "workspace")
    large_tree(watched.root)
    watched.take()
    shutil.rmtree(watched.root)
    assert SHARES.in_use[0] == 1
    with pytest.raises(FileNotFoundError):
        watched.take()
    large_tree(watched.root)  # another directory of that name
    assert watched.entries() == watched.by_walking()
    del watched
    assert SHARES.in_use == (0, 0)


def test_a_watch_that_is_collected_while_another_is_counted_gives_its_own_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    forgotten = [TreeWatch(root)]
    os.close(root)

    def collect(_: str) -> int:
        forgotten.clear()
        return 1000

    monkeypatch.setattr(tree_watch, "_limit", collect)
    counting = threading.Thread(target=SHARES.take, args=(0, 1), daemon=True)
    counting.start()
    counting.join(60)
    assert not counting.is_alive()
    assert SHARES.in_use == (0, 1)
    SHARES.take(0, -1)


def test_what_could_not_be_read_is_tried_again(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    (watched.root / "b" / "0.txt").write_text("more than there was", encoding="utf-8")
    opening = "agent_runner.snapshots.taking.open_beneath"

    def refuse(root: int, path: str, flags: int) -> int:
        raise PermissionError(path)

    with monkeypatch.context() as patch:
        patch.setattr(opening, refuse)
        assert "b/0.txt" in [each.path for each in watched.take().left_out]
    assert watched.take().left_out == []
    assert watched.entries() == watched.by_walking()


def test_what_is_left_out_stays_named(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "workspace", WalkRules(left_out_names=frozenset({"node_modules"})))
    large_tree(watched.root)
    (watched.root / "b" / "node_modules").mkdir()
    os.mkfifo(watched.root / "a" / "pipe")
    first = watched.take()
    (watched.root / "c" / "0.txt").unlink()
    second = watched.take()
    (watched.root / "a" / "pipe").unlink()
    third = watched.take()
    assert [each.path for each in first.left_out] == ["a/pipe", "b/node_modules"]
    assert second.left_out == first.left_out
    assert third.left_out == first.left_out[1:]
    watched.taker.close()
