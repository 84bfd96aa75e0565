"""`GET /v1/executions/{id}/events`: the log as pages of JSON, or as a stream that goes on until the end.

The stream (server-sent events, WHATWG HTML section 9.2) frames what `event_feed` gives.
"""

import contextlib
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, format_sse_event

from stigmer_contract.api import LAST_EVENT_ID_HEADER, SILENCE_HEADER, Page
from stigmer_contract.events import RecordedEvent
from stigmer_server.api.access import NEEDS_USER_OR_RUNNER, GuardedRoute, LeaseOf, credential_of
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import ExecutionId, Limit, Services, ServicesOf
from stigmer_server.credentials import Credential
from stigmer_server.errors import InvalidRequest, NotFound
from stigmer_server.event_feed import SILENCE_SECONDS, Batch
from stigmer_server.event_log import StoredEvent

router = APIRouter(prefix="/v1/executions", tags=["executions"], route_class=GuardedRoute)

DEFAULT_EVENT_PAGE_SIZE: Final = 100
HEARTBEAT: Final = b": heartbeat\n\n"
MAX_SEQUENCE: Final = 2**31 - 1
_STREAM: Final = "text/event-stream"


@router.get(
    "/{execution_id}/events",
    response_model=Page[RecordedEvent],
    responses=problem_responses(NotFound)
    | {
        200: {"content": {_STREAM: {"schema": {"type": "string", "description": "Server-sent events."}}}},
        204: {"description": "The stream's end has been read; an `EventSource` then stops asking."},
    },
    openapi_extra=NEEDS_USER_OR_RUNNER,
)
async def read_events(
    execution_id: ExecutionId,
    request: Request,
    services: ServicesOf,
    lease: LeaseOf,
    after: Annotated[
        int, Query(ge=0, le=MAX_SEQUENCE, description="Only events with a greater sequence.")
    ] = 0,
    limit: Limit = DEFAULT_EVENT_PAGE_SIZE,
    last_event_id: Annotated[
        str | None, Header(alias=LAST_EVENT_ID_HEADER, description="As `after`.")
    ] = None,
) -> Response:
    """The log. With `Accept: text/event-stream` it is followed to its end, live events among it."""
    if lease is not None:
        await services.leases.check_execution(lease, execution_id)
    state = await services.executions.load(
        execution_id, None if lease is not None else credential_of(request).caller
    )
    if _STREAM not in request.headers.get("accept", ""):
        return await _page(services, execution_id, after, limit)
    if last_event_id:
        after = _parse_event_id(last_event_id)
    if state.phase.is_terminal and after >= state.last_sequence:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    headers = {
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
        SILENCE_HEADER: f"{SILENCE_SECONDS:g}",
    }
    return EventSourceResponse(
        _stream(services, execution_id, after, credential_of(request)), headers=headers
    )


async def _page(services: Services, execution_id: ExecutionId, after: int, limit: int) -> Response:
    stored = await services.feed.read(execution_id, after, limit + 1)
    items = ",".join(event.to_json() for event in stored[:limit])
    # The cursor is the sequence to go on `after`; it is there only where more follows.
    cursor = f'"{stored[limit - 1].sequence}"' if len(stored) > limit else "null"
    return Response(f'{{"items":[{items}],"next_cursor":{cursor}}}', media_type="application/json")


def _parse_event_id(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > MAX_SEQUENCE:
        raise InvalidRequest(f"{LAST_EVENT_ID_HEADER} {text!r} is not an event's sequence")
    return int(text)


async def _stream(
    services: Services, execution_id: ExecutionId, after: int, credential: Credential
) -> AsyncGenerator[bytes]:
    # An answer that begins at once tells the reader that it is connected.
    yield b": connected\n\n"
    async with contextlib.aclosing(services.feed.follow(execution_id, after)) as batches:
        async for batch in batches:
            if not credential.holds:
                return
            yield _frames(batch) if batch else HEARTBEAT


def _frames(batch: Batch) -> bytes:
    return b"".join(
        format_sse_event(id=str(item.sequence), event=item.type, data_str=item.to_json())
        if isinstance(item, StoredEvent)
        else format_sse_event(event=item.type, data_str=item.body)
        for item in batch
    )
