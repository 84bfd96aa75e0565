"""Reads and follows the logs of executions, for whatever protocol. Knows no protocol itself.

Who follows subscribes before it reads, so nothing falls between; a sequence that was given is never given
again.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from stigmer_server.event_broadcast import EventBroadcast, ShownEvent, Subscription
from stigmer_server.event_log import EventLog, StoredEvent
from stigmer_server.log_formats import LogFormats

REPLAY_PAGE_SIZE: Final = 200
SILENCE_SECONDS: Final = 15.0
TERMINAL_TYPES: Final = frozenset({"execution.completed", "execution.failed", "execution.cancelled"})
_ANSWER_TYPES: Final = frozenset({"model.delta", "model.partial"})

Batch = Sequence[StoredEvent | ShownEvent]
"""Events in the log's order, live ones between; empty: nothing has happened for `SILENCE_SECONDS`."""


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
