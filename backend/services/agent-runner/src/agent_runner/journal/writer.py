"""Appends a leg's events to the server's log in order, and shows live events in between.

One task sends, so that order on the wire is order of calls; what piles up during one call goes out
together with the next, and what is known to be followed by more waits for that. Does not decide what is
written.
"""

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING

from agent_runner.journal.masked_events import EventMask
from agent_runner.masking import Masker
from agent_runner.server_client import ServerClient
from stigmer_contract.api import MAX_APPEND_EVENTS
from stigmer_contract.events import Event, LiveEvent, ModelDelta, ModelPartial, ToolOutput

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

LINGER_SECONDS = 0.5
"""Longest wait of an event for the one that follows it. Mostly that takes a few milliseconds; the bound is
for a runner with so much in hand that each leg gets its turn rarely. A call saved is 1.5 ms of CPU time of
server and runner (2026-11)."""
MAX_PENDING_LIVE_EVENTS = 1_000
"""A watcher may miss live events; a runner may not run out of memory because the server is away."""


class LogWriter:
    """The one way from a leg to its log. Use as an async context manager."""

    def __init__(
        self,
        client: ServerClient,
        execution_id: str,
        attempt: int,
        masker: Masker,
        *,
        on_cancel_requested: "Callable[[], None]",
        on_failure: "Callable[[Exception], None]",
    ) -> None:
        """The callbacks run in the event loop: the server says that cancelling was asked for; an
        append was refused, after which nothing more is sent."""
        self._client = client
        self._execution_id = execution_id
        self._attempt = attempt
        self._mask = EventMask(masker)
        self._on_cancel_requested = on_cancel_requested
        self._on_failure = on_failure
        self._queue: deque[Event | LiveEvent] = deque()
        self._pending_live = 0
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._failure: Exception | None = None
        self._task: asyncio.Task[None] | None = None
        self._lingering: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> "LogWriter":
        self._task = asyncio.create_task(self._send_forever(), name=f"log-writer {self._execution_id}")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._task is not None
        self._task.cancel()
        self._stop_lingering()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def append(self, *events: Event, more_follows: bool = False) -> None:
        """Queue events for the log; they are on their way at once, and `flush` waits for them.

        With `more_follows` they go together with the next event or `flush`, or after `LINGER_SECONDS`.
        """
        if self._failure is not None:
            return
        self._settled.clear()
        for event in events:
            for rest in self._mask.end_streams(event):
                self._show(rest)
            self._queue.append(self._mask.mask(event))
        if not more_follows:
            self._wake.set()
        elif self._lingering is None:
            self._lingering = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._wake.set)

    def show(self, event: LiveEvent) -> None:
        """Queue a live event, joined to the one before where that makes no difference to a watcher."""
        masked = self._mask.mask_live(event)
        if masked is not None:
            self._show(masked)

    def _show(self, event: LiveEvent) -> None:
        last = self._queue[-1] if self._queue else None
        joined = _join(last, event) if last is not None else None
        if joined is not None:
            self._queue[-1] = joined
        elif self._pending_live < MAX_PENDING_LIVE_EVENTS:
            self._queue.append(event)
            self._pending_live += 1
        self._wake.set()

    async def flush(self) -> None:
        """Wait until everything appended so far is in the log.

        Raises:
            ServerRefused: the log no longer takes this attempt's events.
        """
        if not self._settled.is_set():
            self._wake.set()
        await self._settled.wait()
        if self._failure is not None:
            raise self._failure

    async def _send_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._stop_lingering()
            while self._queue:
                try:
                    await self._send_next()
                except Exception as error:  # handed to the leg, which ends by it
                    self._failure = error
                    self._settled.set()
                    self._on_failure(error)
                    return
            self._settled.set()

    def _stop_lingering(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    async def _send_next(self) -> None:
        """Send the longest run of events of one sort from the head of the queue."""
        live: list[LiveEvent] = []
        durable: list[Event] = []
        while self._queue and len(live) + len(durable) < MAX_APPEND_EVENTS:
            event = self._queue[0]
            if isinstance(event, ModelDelta | ModelPartial | ToolOutput):
                if durable:
                    break
                live.append(event)
                self._pending_live -= 1
            else:
                if live:
                    break
                durable.append(event)
            self._queue.popleft()
        if live:
            await self._client.publish(self._execution_id, self._attempt, live)
        if durable:
            result = await self._client.append(self._execution_id, self._attempt, durable)
            if result.cancel_requested:
                self._on_cancel_requested()


def _join(last: Event | LiveEvent, event: LiveEvent) -> LiveEvent | None:
    """Both as one event, or None where a watcher could tell the difference."""
    if isinstance(last, ModelDelta) and isinstance(event, ModelDelta):
        if (last.turn, last.kind) == (event.turn, event.kind):
            return last.model_copy(update={"text": last.text + event.text})
    elif (
        isinstance(last, ToolOutput)
        and isinstance(event, ToolOutput)
        and (last.call_id, last.stream) == (event.call_id, event.stream)
    ):
        return last.model_copy(update={"text": last.text + event.text})
    return None
