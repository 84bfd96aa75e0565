"""Reads and follows the logs of executions, for whatever protocol. Knows no protocol itself.

Who follows subscribes before it reads, so nothing falls between; a sequence that was given is never given
again.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stigmer_server.event_broadcast import EventBroadcast, ShownEvent, Subscription
from stigmer_server.event_log import EventLog, StoredEvent
from stigmer_server.log_formats import LogFormats

REPLAY_PAGE_SIZE: Final = 200
SILENCE_SECONDS: Final = 3.0
TERMINAL_TYPES: Final = frozenset({"execution.completed", "execution.failed", "execution.cancelled"})
QUEUED_BATCHES: Final = 16
"""Of a reader of many logs; each log keeps what does not fit, or is read again."""
_ANSWER_TYPES: Final = frozenset({"model.delta", "model.partial"})

CHANGES_INTERVAL_SECONDS: Final = 1.0
"""How often at most is told that something has changed."""

Batch = Sequence[StoredEvent | ShownEvent]
"""Events in the log's order, live ones between; empty: nothing has happened for `SILENCE_SECONDS`."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a reader of many logs is told."""

    execution_id: str | None
    """Whose log it is; None: something has become of executions, whichever."""
    batch: Batch = ()
    has_ended: bool = False
    """That log is at its end."""
    is_heartbeat: bool = False
    """Nothing has happened for `SILENCE_SECONDS`."""


class EventFeed:
    """The logs, in the newest words."""

    def __init__(self, log: EventLog, broadcast: EventBroadcast, formats: LogFormats) -> None:
        self._log = log
        self._broadcast = broadcast
        self._formats = formats

    @property
    def reader_count(self) -> int:
        """How many follow a log of this process."""
        return self._broadcast.reader_count

    async def read(self, execution_id: str, after: int, limit: int) -> Sequence[StoredEvent]:
        """Events with a sequence greater than `after`, ascending, at most `limit`."""
        return await self._formats.newest(execution_id, await self._log.read(execution_id, after, limit))

    async def follow(self, execution_id: str, after: int) -> AsyncGenerator[Batch]:
        """Events with a sequence greater than `after`, then what happens, until the execution has ended.

        Close the generator to stop earlier. It also ends when the server does.
        """
        with self._broadcast.subscribe(execution_id) as subscription:
            last, has_ended = after, False
            while not subscription.closed:
                subscription.must_read_log = False
                while True:
                    stored = await self.read(execution_id, last, REPLAY_PAGE_SIZE)
                    if stored:
                        last = subscription.newest_sequence = stored[-1].sequence
                        has_ended = stored[-1].type in TERMINAL_TYPES
                        yield stored
                    if len(stored) < REPLAY_PAGE_SIZE:
                        break
                # Only at the log's end: one that failed may have been retried.
                if has_ended:
                    return
                # Without a pause from here on: the answer so far holds the pieces of it that are waiting.
                waiting = [item for item in subscription.take() if item.type not in _ANSWER_TYPES]
                partial = self._broadcast.answer_so_far(execution_id)
                if partial is not None:
                    waiting.append(ShownEvent.of(partial))
                async for batch, sequence in _follow(subscription, waiting, last):
                    last = sequence
                    yield batch
                    recorded = [item.type for item in batch if isinstance(item, StoredEvent)]
                    has_ended = recorded[-1] in TERMINAL_TYPES if recorded else has_ended
                    if has_ended:
                        return

    async def follow_many(self, positions: Mapping[str, int], owner: str | None) -> AsyncGenerator[Told]:
        """Several logs at once, each as `follow` does it; and that something has become of executions.

        The latter of an owner's; None: of anybody's. Ends with the server only.

        Raises:
            Unavailable: one of the logs cannot be read.
        """
        queue: asyncio.Queue[Told | Exception] = asyncio.Queue(QUEUED_BATCHES)

        async def pump(execution_id: str, after: int) -> None:
            try:
                await pass_on(execution_id, after)
            except Exception as error:
                # Raised where it ends the stream, which begins again: else this log would be silent for ever.
                await queue.put(error)

        async def pass_on(execution_id: str, after: int) -> None:
            has_ended = False
            async with contextlib.aclosing(self.follow(execution_id, after)) as batches:
                async for batch in batches:
                    if batch:
                        recorded = [item.type for item in batch if isinstance(item, StoredEvent)]
                        has_ended = recorded[-1] in TERMINAL_TYPES if recorded else has_ended
                        await queue.put(Told(execution_id, batch))
            if has_ended:
                await queue.put(Told(execution_id, has_ended=True))

        async def tell_changes(changed: asyncio.Event) -> None:
            while True:
                await changed.wait()
                changed.clear()
                await queue.put(Told(None))
                await asyncio.sleep(CHANGES_INTERVAL_SECONDS)

        with self._broadcast.watch(owner) as watch:
            tasks = [asyncio.create_task(pump(*position)) for position in positions.items()]
            tasks.append(asyncio.create_task(tell_changes(watch.changed)))
            try:
                while not self._broadcast.is_closed:
                    try:
                        async with asyncio.timeout(SILENCE_SECONDS):
                            told = await queue.get()
                    except TimeoutError:
                        told = Told(None, is_heartbeat=True)
                    if isinstance(told, Exception):
                        raise told
                    yield told
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(
    subscription: Subscription, items: list[StoredEvent | ShownEvent], last: int
) -> AsyncGenerator[tuple[Batch, int]]:
    """Batches as they come, each with the newest sequence in or before it.

    Stops where the log must be read again.
    """
    while True:
        fresh: list[StoredEvent | ShownEvent] = []
        for item in items:
            if isinstance(item, ShownEvent):
                fresh.append(item)
            elif item.sequence == last + 1:
                fresh.append(item)
                last = item.sequence
            elif item.sequence > last:
                subscription.must_read_log = True  # another process wrote what is between
                break
        if fresh:
            yield fresh, last
        if subscription.must_read_log or subscription.closed:
            return
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                await subscription.wait()
        except TimeoutError:
            yield (), last
        items = subscription.take()
