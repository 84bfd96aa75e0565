"""When snapshots are taken, and what waits for them."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart

from agent_runner.errors import ServerRefused
from agent_runner.legs import ActivityAttempt
from agent_runner.snapshots import WATCHED_FROM, SnapshotTaker, StepSnapshots, WalkRules, around_steps
from agent_runner.snapshots.tree_watch import SHARES
from bubblewrap import working_bubblewrap
from leg_server import SESSION, Server, leg_runner
from stigmer_contract.events import (
    BlobPayload,
    Event,
    SnapshotSkipped,
    SnapshotTaken,
    ToolFinished,
    ToolStarted,
)
from stigmer_contract.snapshots import Chain, load_chain, provide
from stigmer_isolation.launcher import CommandLauncher


class Blobs:
    """Blobs in memory; they are kept once the gate is open."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        self.refuses = False
        self.takes_blobs = False
        """Whether the log takes small ones along with its events."""

    def bring_blob(self, content: bytes) -> str | None:
        if not self.takes_blobs:
            return None
        sha256 = hashlib.sha256(content).hexdigest()
        self.kept[sha256] = content
        return sha256

    async def store_blob(self, content: bytes) -> str:
        self.asked.set()
        await self.gate.wait()
        if self.refuses:
            raise ServerRefused(507, None, "no room")
        sha256 = hashlib.sha256(content).hexdigest()
        self.kept[sha256] = content
        return sha256

    async def load_blob(self, sha256: str) -> bytes:
        return self.kept[sha256]

    def chain(self, listing: BlobPayload) -> Chain:
        return provide(load_chain(listing.sha256), self.kept.__getitem__)


def watched(root: Path, blobs: Blobs, rules: WalkRules | None = None) -> tuple[StepSnapshots, list[Event]]:
    events: list[Event] = []
    snapshots = StepSnapshots(blobs, events.append)
    snapshots.watch(SnapshotTaker(rules), lambda: os.open(root, os.O_RDONLY | os.O_DIRECTORY), None)
    return snapshots, events


def listings(events: list[Event]) -> list[BlobPayload]:
    return [event.listing for event in events if isinstance(event, SnapshotTaken)]


async def test_nothing_is_looked_at_before_the_first_step_that_may_change_files(tmp_path: Path) -> None:
    snapshots, events = watched(tmp_path, Blobs())
    await snapshots.settle()
    assert events == []


async def test_the_state_before_the_first_change_is_kept_before_it_begins(tmp_path: Path) -> None:
    blobs = Blobs()
    snapshots, events = watched(tmp_path, blobs)
    (tmp_path / "before").touch()
    await snapshots.before_change(1, "c1")
    (tmp_path / "after").touch()
    snapshots.after_change()
    await snapshots.settle()
    before, after = listings(events)
    assert set(blobs.chain(before).entries) == {"", "before"}
    assert set(blobs.chain(after).entries) == {"", "before", "after"}
    assert [(event.turn, event.call_id) for event in events if isinstance(event, SnapshotTaken)] == [
        (None, None),
        (1, "c1"),
    ]


async def test_the_next_change_waits_for_the_snapshot_and_what_reads_does_not(tmp_path: Path) -> None:
    blobs = Blobs()
    snapshots, events = watched(tmp_path, blobs)
    await snapshots.before_change(1, "c1")
    (tmp_path / "one").touch()
    blobs.gate.clear()
    blobs.asked.clear()
    snapshots.after_change()  # returns at once
    following = asyncio.create_task(snapshots.before_change(1, "c2"))
    await blobs.asked.wait()
    assert not following.done()
    assert len(events) == 1
    blobs.gate.set()
    await following
    assert len(events) == 2


async def test_a_step_that_was_stopped_leaves_a_snapshot_of_what_it_had_done(tmp_path: Path) -> None:
    blobs = Blobs()
    snapshots, events = watched(tmp_path, blobs)
    await snapshots.before_change(2, "c1")
    (tmp_path / "half").touch()
    await snapshots.settle()
    await snapshots.settle()
    assert len(events) == 2
    assert "half" in blobs.chain(listings(events)[-1]).entries


async def test_whoever_waits_may_be_stopped_and_the_snapshot_is_taken_all_the_same(tmp_path: Path) -> None:
    blobs = Blobs()
    snapshots, events = watched(tmp_path, blobs)
    blobs.gate.clear()
    beginning = asyncio.create_task(snapshots.before_change(1, "c1"))
    await blobs.asked.wait()
    beginning.cancel()
    await asyncio.wait({beginning})
    blobs.gate.set()
    await snapshots.settle()
    assert beginning.cancelled()
    assert len(listings(events)) == 1


async def test_what_prevents_a_snapshot_is_said_and_stops_nothing(tmp_path: Path) -> None:
    blobs = Blobs()
    snapshots, events = watched(tmp_path, blobs, WalkRules(max_entries=2))
    await snapshots.before_change(1, "c1")
    for name in "abc":
        (tmp_path / name).touch()
    snapshots.after_change()
    await snapshots.before_change(2, "c2")
    for name in "ab":
        (tmp_path / name).unlink()
    blobs.refuses = True
    snapshots.after_change()
    await snapshots.before_change(3, "c3")
    blobs.refuses = False
    snapshots.after_change()
    await snapshots.settle()
    assert events[1:3] == [
        SnapshotSkipped(turn=1, call_id="c1", reason="it has more than 2 files and folders"),
        SnapshotSkipped(turn=2, call_id="c2", reason="the server answered 507: no room"),
    ]
    assert set(blobs.chain(listings(events)[-1]).entries) == {"", "c"}


async def test_a_server_that_takes_no_blob_does_not_stop_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(around_steps, "STORE_SECONDS", 0.01)
    blobs = Blobs()
    blobs.gate.clear()
    snapshots, events = watched(tmp_path, blobs)
    await snapshots.before_change(1, "c1")
    assert events == [SnapshotSkipped(reason="the server did not take it in time")]


async def test_a_name_that_is_no_text_does_not_end_the_execution(tmp_path: Path) -> None:
    os.mkfifo(os.fsencode(tmp_path) + b"/pipe-\xff\n")
    snapshots, events = watched(tmp_path, Blobs())
    await snapshots.before_change(1, "c1")
    [taken] = events
    assert isinstance(taken, SnapshotTaken)
    assert b"pipe-" in taken.model_dump_json().encode()


@pytest.mark.parametrize("takes_blobs", [True, False])
async def test_a_leg_keeps_the_files_around_each_command_in_its_log(
    tmp_path: Path, takes_blobs: bool
) -> None:
    server = Server(tools=["shell", "files"])
    server.takes_blobs = takes_blobs

    def answer(messages: list[ModelMessage]) -> ModelResponse:
        turn = 1 + sum(isinstance(message, ModelResponse) for message in messages)
        if turn > 3:
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(
            parts=[
                ToolCallPart("list_directory", {"path": "."}, f"look-{turn}"),
                ToolCallPart("run_command", {"command": f"echo {turn} > {turn}.txt"}, f"write-{turn}"),
            ]
        )

    async with CommandLauncher() as launcher:
        await leg_runner(server, answer, launcher, tmp_path).run("exe_1", ActivityAttempt("try-1", b"token"))
    seen = [
        (event.call_id, sorted(path for path in chain.entries if path))
        for event in server.events
        if isinstance(event, SnapshotTaken)
        for chain in [provide(load_chain(event.listing.sha256), server.blobs.__getitem__)]
    ]
    assert seen == [
        (None, []),
        ("write-1", ["1.txt"]),
        ("write-2", ["1.txt", "2.txt"]),
        ("write-3", ["1.txt", "2.txt", "3.txt"]),
    ]
    assert (tmp_path / SESSION / "3.txt").exists()
    assert server.stored_by_themselves == (0 if takes_blobs else 4)
    # Each stands behind the end of its call, and before the next that may change anything.
    order = [
        event
        for event in server.events
        if isinstance(event, SnapshotTaken)
        or (isinstance(event, ToolStarted | ToolFinished) and event.tool == "run_command")
    ]
    assert [type(event) for event in order] == [
        SnapshotTaken,
        *[ToolStarted, ToolFinished, SnapshotTaken] * 3,
    ]


async def test_a_leg_watches_over_a_large_workspace_for_as_long_as_it_works(tmp_path: Path) -> None:
    server = Server(tools=["shell"])
    watched: list[tuple[int, int]] = []
    (tmp_path / SESSION / "many").mkdir(parents=True)
    for number in range(WATCHED_FROM):
        (tmp_path / SESSION / "many" / f"{number}").touch()

    def answer(messages: list[ModelMessage]) -> ModelResponse:
        turn = 1 + sum(isinstance(message, ModelResponse) for message in messages)
        watched.append(SHARES.in_use)
        if turn > 4:
            return ModelResponse(parts=[TextPart("done")])
        change = f"echo {turn} > many/{turn}" if turn % 2 else "true"
        return ModelResponse(parts=[ToolCallPart("run_command", {"command": change}, f"call-{turn}")])

    async with CommandLauncher() as launcher:
        launcher.bubblewrap = working_bubblewrap()
        await leg_runner(server, answer, launcher, tmp_path).run("exe_1", ActivityAttempt("try-1", b"token"))
    taken = [event for event in server.events if isinstance(event, SnapshotTaken)]
    assert [event.changed for event in taken[1:]] == [1, 0, 1, 0]
    chain = provide(load_chain(taken[-1].listing.sha256), server.blobs.__getitem__)
    again = SnapshotTaker()
    work = again.take(lambda: os.open(tmp_path / SESSION, os.O_RDONLY | os.O_DIRECTORY))
    assert list(work)
    assert {**again.entries}.keys() == {**chain.entries}.keys()
    assert watched[-1] == (1, 2)
    assert SHARES.in_use == (0, 0)
