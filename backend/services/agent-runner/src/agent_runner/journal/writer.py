"""Appends a leg's events to the server's log in order, and shows live events in between.

One task sends, so that order on the wire is order of calls; what piles up during one call goes out
together with the next, and what is known to be followed by more waits for that. An event is encoded once,
as it is appended: one that cannot be is its step's failure, not the log's. Does not decide what is written.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent_runner.errors import AttemptSuperseded, ExecutionFailure, ServerRefused
from agent_runner.journal.masked_events import EventMask
from agent_runner.journal.surrogates import mend
from agent_runner.masking import Masker
from agent_runner.server_client import LegClient
from stigmer_contract.api import MAX_APPEND_EVENTS
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    Event,
    GrantRevoked,
    InputResolved,
    LiveEvent,
    MessageReceived,
    ModelDelta,
    ModelPartial,
    ModelResponded,
    ModelRetry,
    RecordedEvent,
    ToolFinished,
    ToolOutput,
)

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

LINGER_SECONDS = 0.5
"""Longest wait of an event for the one that follows it. Mostly that takes a few milliseconds; the bound is
for a runner with so much in hand that each leg gets its turn rarely. A call saved is 1.5 ms of CPU time of
server and runner (2026-11)."""
SECURED_SECONDS = 0.01
"""How long what a request to the model builds on waits for its answer before it goes out. A runner that is
killed then leaves the last call's end unwritten, as when it is killed a moment sooner: nothing runs twice."""
SHOW_SECONDS = 0.01
"""How long a live event waits for company: pieces of an answer come faster than calls are made, and of an
answer that is whole by then none has to be shown."""
CONFIRMED_SECONDS = 0.5
"""For so long after the server's last answer a runner is not taken for dead because it is silent."""
ROOM_FOR_AN_END = 50
"""Events that are appended as one count as one until they are sent."""
MAX_PENDING_LIVE_EVENTS = 1_000
"""A watcher may miss live events; a runner may not run out of memory because the server is away."""


class LogWriter:
    """The one way from a leg to its log. Use as an async context manager."""

    def __init__(
        self,
        client: LegClient,
        masker: Masker,
        *,
        last_sequence: int,
        last_message: int = 0,
        on_cancel_requested: "Callable[[], None]",
        on_failure: "Callable[[Exception], None]",
        on_paused: "Callable[[], None]" = lambda: None,
        now: "Callable[[], float] | None" = None,
    ) -> None:
        """The callbacks run in the event loop: the server says that cancelling was asked for; an
        append was refused, after which nothing more is sent until `begin_again`; the execution is paused.

        Args:
            last_sequence: the log's end, as the leg found it.
            last_message: the newest message in it.
            now: seconds on a clock that goes on while the machine is suspended; default: the machine's.
        """
        self._client = client
        self._mask = EventMask(masker)
        self._on_cancel_requested = on_cancel_requested
        self._on_failure = on_failure
        self._on_paused = on_paused
        self._queue: deque[bytes | LiveEvent | _StreamEnd] = deque()
        self._pending_live = 0
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._failure: Exception | None = None
        self._task: asyncio.Task[None] | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._showing: asyncio.TimerHandle | None = None
        self._securing: asyncio.TimerHandle | None = None
        self._now = now or _seconds_since_boot
        self._confirmed_at = self._now()
        self.last_sequence = last_sequence
        """The log's end, as far as is known."""
        self._told_of_message: int = last_message
        self._known_message: int = last_message
        self._known_until: int = last_sequence
        self._revocations_until: int = last_sequence
        self._resolutions_until: int = last_sequence

    async def __aenter__(self) -> "LogWriter":
        self._task = asyncio.create_task(self._send_forever(), name="log-writer")
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

        Raises:
            ExecutionFailure: an event has no JSON; those before it are queued.
        """
        if self._failure is not None:
            return
        for event in events:
            encoded = self._encode(event)
            if isinstance(event, ModelResponded):
                self._drop_pieces_of(event)
            if isinstance(event, ToolFinished | ModelResponded):
                self._queue.append(_StreamEnd(event))
            self._settled.clear()
            self._queue.append(encoded)
        if not more_follows:
            self.send()
        elif self._lingering is None:
            self._lingering = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._wake.set)

    def append_as_one(self, *events: Event) -> None:
        """Queue events that are in the log all together, or not at all."""
        if self._failure is None:
            self._settled.clear()
            self._queue.append(b",".join(map(self._encode, events)))
            self.send()

    def send(self) -> None:
        """Let what was appended go out now, without waiting for it."""
        if not self._settled.is_set():
            self._wake.set()

    async def secure(self) -> None:
        """Let what was appended go out before something is begun that could be begun again, at a price.

        Does not wait where the server took this attempt's events a moment ago: the log keeps its order, so
        that what follows is never in it without this, and a refusal ends the leg. A runner that stood still
        for a while waits, for its execution may be another's by now.

        An answer that comes within `SECURED_SECONDS` brings its call along: a model that is so quick costs
        one append a turn instead of two.

        Raises:
            ServerRefused: the log no longer takes this attempt's events.
        """
        if self._now() - self._confirmed_at < CONFIRMED_SECONDS and self._failure is None:
            if not self._settled.is_set() and self._securing is None:
                self._securing = asyncio.get_running_loop().call_later(SECURED_SECONDS, self._wake.set)
        else:
            await self.flush()

    def _drop_pieces_of(self, answer: ModelResponded) -> None:
        """The answer itself is on its way, and holds them."""
        if answer.agent_path:
            return
        while self._queue and isinstance(last := self._queue[-1], ModelDelta | ModelPartial):
            if last.turn != answer.turn:
                return
            self._queue.pop()
            self._pending_live -= 1

    def _encode(self, event: Event) -> bytes:
        try:
            return self._mask.mask(event).model_dump_json().encode()
        except ValueError as error:  # pydantic's own, and those of Unicode
            raise ExecutionFailure(
                ErrorCode.EVENT_UNWRITABLE,
                f"`{event.type}` could not be written into the log after event {self.last_sequence}: "
                f"it has no JSON ({type(error).__name__})",
                "report this as a defect, with the execution's log",
            ) from error

    def show(self, event: LiveEvent) -> None:
        """Queue a live event, joined to the one before where that makes no difference to a watcher."""
        last = self._queue[-1] if self._queue else None
        joined = _join(last, event) if last is not None else None
        if joined is not None:
            self._queue[-1] = joined
        elif self._pending_live < MAX_PENDING_LIVE_EVENTS and not self._mask.is_cut(event):
            self._queue.append(event)
            self._pending_live += 1
        else:
            self._mask.cut(event)
        if self._showing is None:
            self._showing = asyncio.get_running_loop().call_later(SHOW_SECONDS, self._wake.set)

    def begin_again(self) -> None:
        """Send again after a refusal; what was refused, and what was queued behind it, is dropped."""
        assert self._task is not None
        self._failure = None
        self._queue.clear()
        self._pending_live = 0
        if self._task.done():
            self._task = asyncio.create_task(self._send_forever(), name="log-writer")

    async def flush(self) -> None:
        """Wait until everything appended so far is in the log.

        Raises:
            ServerRefused: the log no longer takes this attempt's events.
        """
        self.send()
        await self._settled.wait()
        if self._failure is not None:
            raise self._failure

    async def news(self) -> list[RecordedEvent]:
        """Messages that have come since, as far as the server told with its last answer."""
        if self._told_of_message == self._known_message:
            return []
        events = await self._client.list_events(after=self._known_until)
        messages = [event for event in events if isinstance(event.event, MessageReceived)]
        self._known_until = events[-1].sequence
        self._known_message = messages[-1].sequence
        self._told_of_message = max(self._told_of_message, self._known_message)
        return messages

    async def resolutions(self) -> list[InputResolved]:
        """What people answered since the leg began, or this was asked last; the server is asked for it."""
        events = await self._client.list_events(after=self._resolutions_until)
        if events:
            self._resolutions_until = events[-1].sequence
        return [each.event for each in events if isinstance(each.event, InputResolved)]

    async def revocations(self) -> list[GrantRevoked]:
        """What was revoked since the leg began, or this was asked last; the server is asked for it."""
        events = await self._client.list_events(after=self._revocations_until)
        if events:
            self._revocations_until = events[-1].sequence
        return [each.event for each in events if isinstance(each.event, GrantRevoked)]

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
        if self._showing is not None:
            self._showing.cancel()
            self._showing = None
        if self._securing is not None:
            self._securing.cancel()
            self._securing = None

    async def _send_next(self) -> None:
        """Send the longest run of events of one sort from the head of the queue."""
        live: list[bytes] = []
        durable: list[bytes] = []
        while self._queue and len(live) + len(durable) < MAX_APPEND_EVENTS - ROOM_FOR_AN_END:
            event = self._queue[0]
            if isinstance(event, bytes):
                if live:
                    break
                durable.append(event)
                self._queue.popleft()
            elif isinstance(event, _StreamEnd):
                if durable and self._mask.has_stream_of(event.event):
                    break
                self._queue.popleft()
                live += map(_encode_live, await self._mask.end_streams(event.event))
            elif durable:
                break
            else:
                self._queue.popleft()
                self._pending_live -= 1
                masked = await self._mask.mask_live(event)
                live += [] if masked is None else [_encode_live(masked)]
        if live:
            await self._client.publish(live)
        if durable:
            await self._append(durable)

    async def _append(self, events: list[bytes]) -> None:
        asked_at = self._now()  # the answer may have lain here while this process was frozen
        try:
            result = await self._client.append(events)
        except AttemptSuperseded:
            raise
        except ServerRefused:
            if len(events) == 1:
                raise
            # What can be written is, up to what cannot.
            for event in events:
                await self._append([event])
            return
        self._confirmed_at = asked_at
        self.last_sequence = result.last_sequence
        self._told_of_message = max(self._told_of_message, result.message_sequence)
        if self._told_of_message == self._known_message:
            self._known_until = result.last_sequence
        if result.cancel_requested:
            self._on_cancel_requested()
        if result.is_paused:
            self._on_paused()


@dataclass(frozen=True)
class _StreamEnd:
    """Where in the queue the live streams end that this event ends."""

    event: Event


def _seconds_since_boot() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS' monotonic one goes on as well
    return time.clock_gettime(clock)


def _encode_live(event: LiveEvent) -> bytes:
    if isinstance(event, ModelRetry):
        return event.model_copy(update={"reason": mend(event.reason)}).model_dump_json().encode()
    # A half of a character that another piece brings the other half of shows as two signs.
    return event.model_copy(update={"text": mend(event.text)}).model_dump_json().encode()


def _join(last: "bytes | LiveEvent | _StreamEnd", event: LiveEvent) -> LiveEvent | None:
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
