"""Tells whoever watches an execution what happens, the moment it happens. Stores nothing.

Holds the text of the answer in the making, so that a reader who comes late sees it too. A reader that
is too slow loses the queue, not the events: those it reads from the log.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from stigmer_contract.events import (
    LIVE_EVENT_ADAPTER,
    LiveEvent,
    ModelDelta,
    ModelPartial,
)
from stigmer_server.event_log import StoredEvent
from stigmer_server.execution_state import ExecutionState

MAX_WAITING: Final = 1000
"""Events that wait for one reader; with more, it must read the log."""


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """A live event, its JSON made once for all readers."""

    type: str
    body: str

    @classmethod
    def of(cls, event: LiveEvent) -> "ShownEvent":
        """Serialise a live event."""
        return cls(event.type, LIVE_EVENT_ADAPTER.dump_json(event).decode())


@dataclass(slots=True)
class _Answer:
    """The text of the turn that the model is at."""

    turn: int
    parts: list[str] = field(default_factory=list[str])
    is_complete: bool = False
    """It is in the log; pieces of it that come late are not a new answer."""


class Subscription:
    """One reader's queue."""

    def __init__(self) -> None:
        self._items: deque[StoredEvent | ShownEvent] = deque()
        self._wake = asyncio.Event()
        self.must_read_log = False
        """Set where events were dropped, or another process has appended some."""
        self.newest_sequence = 0
        """The newest event that the reader has, or has waiting."""
        self.closed = False

    def put(self, items: Sequence[StoredEvent | ShownEvent]) -> None:
        """Add events, or drop all where the reader is too slow."""
        if self.must_read_log:
            return
        self._items.extend(items)
        for item in items:
            if isinstance(item, StoredEvent):
                self.newest_sequence = max(self.newest_sequence, item.sequence)
        if len(self._items) > MAX_WAITING:
            self.send_to_log()
        self._wake.set()

    def send_to_log(self) -> None:
        """Drop what waits; the reader goes back to the log."""
        self._items.clear()
        self.must_read_log = True
        self._wake.set()

    def close(self) -> None:
        """Tell the reader that nothing more comes."""
        self.closed = True
        self._wake.set()

    def take(self) -> list[StoredEvent | ShownEvent]:
        """Everything that waits, in order. Never waits itself."""
        items = list(self._items)
        self._items.clear()
        self._wake.clear()
        return items

    async def wait(self) -> None:
        """Wait until there is something to take, the log must be read, or nothing more comes."""
        await self._wake.wait()


@dataclass(slots=True, eq=False)
class ChangeWatch:
    """Whoever wants to know that something has become of executions, whatever it is."""

    owner: str | None
    """Of theirs only; None: of anybody's."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class EventBroadcast:
    """All readers of this process."""

    def __init__(self) -> None:
        self._watches: set[ChangeWatch] = set()
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._answers: dict[str, _Answer] = {}
        self._attempts: dict[str, int] = {}
        self._closed = False

    @property
    def reader_count(self) -> int:
        """How many readers there are."""
        return sum(len(readers) for readers in self._subscriptions.values())

    @property
    def watched_execution_ids(self) -> list[str]:
        """Executions that have readers."""
        return list(self._subscriptions)

    @contextlib.contextmanager
    def subscribe(self, execution_id: str) -> Generator[Subscription]:
        """A queue that gets every event from now on."""
        subscription = Subscription()
        if self._closed:
            subscription.close()
        self._subscriptions.setdefault(execution_id, set()).add(subscription)
        try:
            yield subscription
        finally:
            readers = self._subscriptions[execution_id]
            readers.remove(subscription)
            if not readers:
                del self._subscriptions[execution_id]

    @property
    def is_closed(self) -> bool:
        """Whether the server stops."""
        return self._closed

    @contextlib.contextmanager
    def watch(self, owner: str | None) -> Generator[ChangeWatch]:
        """Is told of every change from now on, and when the server stops."""
        watch = ChangeWatch(owner)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.remove(watch)

    def publish_recorded(self, state: ExecutionState, stored: Sequence[StoredEvent]) -> None:
        """Show events that have been appended."""
        execution_id = state.execution_id
        for watch in self._watches:
            if watch.owner in (None, state.owner):
                watch.changed.set()
        items: list[StoredEvent | ShownEvent] = list(stored)
        types = {event.type for event in stored}
        answer = self._answers.get(execution_id)
        if state.phase.is_terminal:
            self._answers.pop(execution_id, None)
            self._attempts.pop(execution_id, None)
        elif answer is not None and "model.responded" in types:
            answer.parts, answer.is_complete = [], True
        elif answer is not None and "leg.started" in types and not answer.is_complete:
            # The runner that was writing the answer is gone; it will be asked for again.
            answer.parts = []
            items.append(ShownEvent.of(ModelPartial(turn=answer.turn, text="")))
        if not state.phase.is_terminal:
            self._attempts[execution_id] = state.attempt
        self._put(execution_id, items)

    def attempt_of(self, execution_id: str) -> int | None:
        """The attempt whose live events are shown; None where it is not known, or the execution has ended."""
        return self._attempts.get(execution_id)

    def follow_attempt(self, execution_id: str, attempt: int) -> None:
        """Show live events of this attempt from now on."""
        self._attempts[execution_id] = attempt

    def publish_live(self, execution_id: str, events: Sequence[LiveEvent]) -> None:
        """Show live events to whoever watches now."""
        for event in events:
            self._keep_answer(execution_id, event)
        if execution_id in self._subscriptions:
            self._put(execution_id, [ShownEvent.of(event) for event in events])

    def answer_so_far(self, execution_id: str) -> ModelPartial | None:
        """The text of the answer in the making; None where there is none."""
        answer = self._answers.get(execution_id)
        if answer is None or answer.is_complete or not answer.parts:
            return None
        answer.parts = ["".join(answer.parts)]
        return ModelPartial(turn=answer.turn, text=answer.parts[0])

    def compare_with_log(self, last_sequences: Mapping[str, int]) -> None:
        """Send readers to the log who miss events that it has; by execution id."""
        for execution_id, last_sequence in last_sequences.items():
            for subscription in self._subscriptions.get(execution_id, ()):
                if subscription.newest_sequence < last_sequence:
                    subscription.send_to_log()

    def close(self) -> None:
        """End every reader's stream, now and later."""
        self._closed = True
        for watch in self._watches:
            watch.changed.set()
        for readers in self._subscriptions.values():
            for subscription in readers:
                subscription.close()

    def _put(self, execution_id: str, items: Sequence[StoredEvent | ShownEvent]) -> None:
        for subscription in self._subscriptions.get(execution_id, ()):
            subscription.put(items)

    def _keep_answer(self, execution_id: str, event: LiveEvent) -> None:
        if isinstance(event, ModelPartial):
            self._answers[execution_id] = _Answer(event.turn, [event.text])
        elif isinstance(event, ModelDelta) and event.kind == "text":
            answer = self._answers.get(execution_id)
            if answer is None or answer.turn < event.turn:
                answer = self._answers[execution_id] = _Answer(event.turn)
            if answer.turn == event.turn and not answer.is_complete:
                answer.parts.append(event.text)
