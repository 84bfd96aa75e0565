"""When snapshots are taken: before the first step of a leg that may change files, and after each of them.

*As it was at a step* means: after its call had returned and all that it had started was ended, before the
next step that may change anything began. So a snapshot runs beside the next request to the model and beside
steps that only read, and the next step with side effects waits for it. What else writes meanwhile, such as a
server of tools that lives on, is seen: a file that changes while it is read is read again, and counted.
"""

import asyncio
import errno
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from pydantic_ai.workspaces import WorkspaceError

from agent_runner.errors import AttemptSuperseded, ServerRefused
from agent_runner.snapshots.taking import SnapshotTaker, Taken
from agent_runner.snapshots.tree_walk import TooMuch
from agent_runner.toolsets.shown_names import shown_name
from stigmer_contract.errors import SnapshotDamaged
from stigmer_contract.events import BlobPayload, Event, SnapshotSkipped, SnapshotTaken
from stigmer_contract.snapshots import Entry, Wants, load_chain

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

STORE_SECONDS: Final = 60.0
"""Longest wait for a server that takes no blob, as with a full disk: the work of the agent goes on."""
MAX_NAMED: Final = 20
"""Paths that are left out, as an event names them; the listing has more."""


class Blobs(Protocol):
    """Where the blobs of snapshots are."""

    def bring_blob(self, content: bytes) -> str | None:
        """Let a small blob go with the event that names it; its SHA-256. None: it has to be stored first."""
        ...

    async def store_blob(self, content: bytes) -> str:
        """Keep a blob; its SHA-256."""
        ...

    async def load_blob(self, sha256: str) -> bytes:
        """A blob again."""
        ...


class StepSnapshots:
    """The snapshots of one leg. Takes none until `watch` names a workspace."""

    def __init__(self, blobs: Blobs, write: Callable[[Event], None]) -> None:
        """`write` puts an event into the log."""
        self._blobs = blobs
        self._write = write
        self._taker: SnapshotTaker | None = None
        self._open: Callable[[], int]
        self._newest: BlobPayload | None = None
        self._task: asyncio.Task[None] | None = None
        self._has_begun = False
        self._is_kept = False
        """Whether the newest attempt has come to a snapshot."""
        self._call: tuple[int, str] | None = None
        """Turn and id of the call that may have changed something since the last snapshot."""

    def watch(
        self, taker: SnapshotTaker, open_workspace: Callable[[], int], newest: BlobPayload | None
    ) -> None:
        """Take snapshots from here on.

        Args:
            taker: of this workspace.
            open_workspace: gives a descriptor of it, to be closed.
            newest: the listing that the session's log names last, which the first one here goes on from.
        """
        self._taker, self._open, self._newest = taker, open_workspace, newest

    async def before_change(self, turn: int, call_id: str) -> None:
        """A step that may change files is about to begin: what was before it, is known by now."""
        if self._taker is None:
            return
        if not self._has_begun:
            self._has_begun = True
            self._begin(self._taker, None)
        await self._wait()
        self._call = (turn, call_id)

    def after_change(self) -> None:
        """That step has ended, and its end has its place in the log: take the snapshot meanwhile."""
        if self._taker is not None and self._call is not None:
            call, self._call = self._call, None
            self._begin(self._taker, call)

    async def settle(self) -> None:
        """Wait for the snapshot in hand; take one of what a step that was stopped has changed."""
        await self._wait()
        self.after_change()
        await self._wait()

    def close(self) -> None:
        """Watch over the workspace no more."""
        if self._taker is not None:
            self._taker.close()

    async def entries_now(self) -> dict[str, Entry] | None:
        """What the files are now, which is kept as a snapshot; None: none was taken, and the log says why."""
        if self._taker is None:
            return None
        await self._wait()
        self._is_kept = False
        self._begin(self._taker, None)
        await self._wait()
        return self._taker.entries if self._is_kept else None

    def _begin(self, taker: SnapshotTaker, call: tuple[int, str] | None) -> None:
        self._task = asyncio.create_task(self._take(taker, call), name="snapshot")

    async def _wait(self) -> None:
        """A snapshot goes on to its end where who waits for it is cancelled: a thread is at work."""
        if self._task is not None:
            await asyncio.shield(self._task)
            self._task = None

    async def _take(self, taker: SnapshotTaker, call: tuple[int, str] | None) -> None:
        turn, call_id = call or (None, None)
        started = time.monotonic()
        try:
            taken, contents = await self._taken(taker)
        except AttemptSuperseded:
            return  # the log's own refusal ends the leg
        except (OSError, TooMuch, ServerRefused, WorkspaceError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            logger.warning("no snapshot was taken: %s", reason)
            self._write(SnapshotSkipped(turn=turn, call_id=call_id, reason=reason))
            return
        self._is_kept = True
        self._write(
            SnapshotTaken(
                turn=turn,
                call_id=call_id,
                listing=BlobPayload(sha256=taken.listing, size_bytes=taken.listing_bytes),
                contents=contents,
                entries=taken.entries,
                size_bytes=taken.size_bytes,
                changed=taken.changed,
                left_out=[f"{shown_name(each.path)}: {each.why}" for each in taken.left_out[:MAX_NAMED]],
                further_left_out=max(0, len(taken.left_out) - MAX_NAMED),
                unsettled=taken.unsettled,
                duration_seconds=round(time.monotonic() - started, 6),
            )
        )

    async def _taken(self, taker: SnapshotTaker) -> tuple[Taken, list[BlobPayload]]:
        if self._newest is not None:
            newest, self._newest = self._newest, None
            await self._go_on_from(taker, newest.sha256)
        if (same := taker.unchanged(self._open)) is not None:
            return same, []
        work = taker.take(self._open)
        stored = list[BlobPayload]()
        while True:
            content = await asyncio.to_thread(self._advance, work, stored)
            if isinstance(content, Taken):
                return content, [each for each in stored if each.sha256 != content.listing]
            try:
                async with asyncio.timeout(STORE_SECONDS):
                    sha256 = await self._blobs.store_blob(content)
            except TimeoutError as error:
                raise OSError(errno.ETIMEDOUT, "the server did not take it in time") from error
            stored.append(BlobPayload(sha256=sha256, size_bytes=len(content)))

    def _advance(self, work: Generator[bytes, None, Taken], stored: list[BlobPayload]) -> bytes | Taken:
        """The next blob that has to be stored; those that go with the event are noted on the way."""
        try:
            while (sha256 := self._blobs.bring_blob(content := next(work))) is not None:
                stored.append(BlobPayload(sha256=sha256, size_bytes=len(content)))
        except StopIteration as end:
            taken: Taken = end.value
            return taken
        return content

    async def _go_on_from(self, taker: SnapshotTaker, listing: str) -> None:
        try:
            taker.go_on_from(listing, await bring(load_chain(listing), self._blobs.load_blob))
        except AttemptSuperseded:
            raise
        except (SnapshotDamaged, ServerRefused) as error:  # then the next one is a whole one
            logger.warning("the newest snapshot cannot be gone on from: %s", error)


async def bring(work: Wants[_T], load: Callable[[str], Awaitable[bytes]]) -> _T:
    """Do work that wants blobs, in a thread, with blobs that are loaded here."""
    step = functools.partial(next, work)
    while True:
        working = asyncio.ensure_future(asyncio.to_thread(_wanted, step))
        try:
            wanted = await asyncio.shield(working)
        except asyncio.CancelledError:
            # Whoever waits closes next what the thread uses, and its number may be another file's then.
            await asyncio.gather(working, return_exceptions=True)
            raise
        if isinstance(wanted, _Done):
            return wanted.result
        step = functools.partial(work.send, await load(wanted))


@dataclass(frozen=True)
class _Done(Generic[_T]):
    """What the work has come to."""

    result: _T


def _wanted(step: Callable[[], str]) -> "str | _Done[Any]":
    try:
        return step()
    except StopIteration as end:  # which no thread can hand over
        return _Done(end.value)
