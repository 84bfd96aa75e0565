"""Follows an execution: every recorded event exactly once and in order, whatever the connection does."""

import http.client
import random
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

from pydantic import ValidationError

from stigmer_cli.api_client.http_transport import (
    HttpStream,
    HttpTransport,
    describe_connection_error,
)
from stigmer_cli.api_client.sse import SseMessage, SseParser
from stigmer_cli.errors import CallRefused, ServerUnreachable, StigmerError
from stigmer_contract.api import LAST_EVENT_ID_HEADER, SILENCE_HEADER
from stigmer_contract.events import (
    LIVE_EVENT_ADAPTER,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    LiveEvent,
    RecordedEvent,
)
from stigmer_contract.http_statuses import RETRYABLE_STATUSES

FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 3.0
STREAM_SILENCES = 3.0
"""A stream that is silent for so many times as long as the server says is taken for one that swallows all."""
GIVE_UP_AFTER_SECONDS = 120.0
"""How long the server may be gone before the reader gives up; the stack restarts it within seconds."""

_RETRYABLE_STATUSES = RETRYABLE_STATUSES | {500}


def follow_events(
    transport: HttpTransport,
    execution_id: str,
    *,
    after: int = 0,
    report: Callable[[str], None] | None = None,
) -> Iterator[RecordedEvent | LiveEvent]:
    """Events after the sequence `after`, until the execution has ended.

    A failure is the end only where the server's stream ends with it: the execution may have been retried.

    Reconnects by itself and takes up behind the last recorded event. Live events are given as they
    come: after a reconnect some may be missing, and `model.partial` brings the text so far.

    Args:
        report: told in one line when the connection is lost, and when it is back.

    Raises:
        CallRefused: the server does not give the events out, e.g. there is no such execution.
        ServerUnreachable: no connection for `GIVE_UP_AFTER_SECONDS`.
    """
    lost_at: float | None = None
    failures = 0
    has_failed = False
    while True:
        reason = "the server ended the stream"
        stream: HttpStream | None = None
        try:
            stream = _open_stream(transport, execution_id, after)
            for event in _read_stream(stream):
                if failures >= 2 and report:
                    report("connected again")
                lost_at, failures = None, 0
                if event is None:
                    continue
                if isinstance(event, RecordedEvent):
                    if event.sequence <= after:
                        continue
                    if event.sequence != after + 1:
                        reason = f"event {after + 1} is missing"
                        break
                    after = event.sequence
                    has_failed = isinstance(event.event, ExecutionFailed)
                yield event
                if isinstance(event, RecordedEvent) and is_final(event):
                    return
        except CallRefused as error:
            if error.status not in _RETRYABLE_STATUSES:
                raise
            reason = error.message
        except (OSError, http.client.HTTPException) as error:
            reason = describe_connection_error(error)
        finally:
            if stream:
                stream.close()
        if has_failed:
            return
        now = time.monotonic()
        if lost_at is None:
            lost_at = now
        elif now - lost_at > GIVE_UP_AFTER_SECONDS:
            hint = f"run `stigmer executions follow {execution_id}` once the server is back"
            raise ServerUnreachable(transport.endpoint, reason, hint)
        failures += 1
        if failures == 2 and report:  # a single cut mends at once and is nobody's concern
            report(f"connection to the server lost ({reason}); trying again")
        _wait_before_attempt(failures)


def is_final(event: RecordedEvent) -> bool:
    """Whether nothing can follow the event."""
    return isinstance(event.event, ExecutionCompleted | ExecutionCancelled)


def _open_stream(transport: HttpTransport, execution_id: str, after: int) -> HttpStream:
    headers = {"Accept": "text/event-stream", LAST_EVENT_ID_HEADER: str(after)}
    stream = transport.open_stream(f"/v1/executions/{quote(execution_id, safe='')}/events", headers)
    if (silence_seconds := stream.header(SILENCE_HEADER)).isdecimal():
        stream.limit_silence(STREAM_SILENCES * int(silence_seconds))
    return stream


def _read_stream(stream: HttpStream) -> Iterator[RecordedEvent | LiveEvent | None]:
    """The events; None: the server has let hear of itself. Its first word says nothing of the connection."""
    parser = SseParser()
    for number, chunk in enumerate(stream):
        if number:
            yield None
        for message in parser.feed(chunk):
            event = _read_message(message)
            if event:
                yield event


def _read_message(message: SseMessage) -> RecordedEvent | LiveEvent | None:
    """A frame with an id is recorded. What a newer server says besides is passed over."""
    if message.id is None:
        try:
            return LIVE_EVENT_ADAPTER.validate_json(message.data, extra="ignore")
        except ValidationError:
            return None
    try:
        return RecordedEvent.model_validate_json(message.data)
    except ValidationError as error:
        raise StigmerError(
            f"could not read event {message.id} of kind {message.event!r}: it is none of the log's",
            "look whether something between this command and the server changes its answers",
        ) from error


def _wait_before_attempt(failures: int) -> None:
    longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (failures - 1))
    time.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 - spreads attempts, guards nothing
