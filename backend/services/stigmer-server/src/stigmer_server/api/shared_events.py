"""`GET /v1/events`: many logs over one connection, for all tabs of a browser, which has few for a server.

Each event comes with its execution's id; its position, `ID:SEQUENCE`, is where the next stream goes on.
"""

import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.sse import EventSourceResponse, format_sse_event

from stigmer_contract.api import ExecutionPosition, Page
from stigmer_server.api.access import NEEDS_USER, CallerOf, CredentialOf, GuardedRoute
from stigmer_server.api.events import HEARTBEAT, MAX_SEQUENCE
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import Services, ServicesOf
from stigmer_server.credentials import Credential
from stigmer_server.errors import InvalidRequest, NotFound
from stigmer_server.event_feed import Told
from stigmer_server.event_log import StoredEvent
from stigmer_server.execution_state import ExecutionState
from stigmer_server.owners import Caller

router = APIRouter(prefix="/v1/events", tags=["executions"], route_class=GuardedRoute)

MOST_EXECUTIONS: Final = 30
_STREAM: Final = "text/event-stream"
_POSITION: Final = r"^[!-9;-~]{1,64}(:[0-9]{1,10})?$"


@router.get(
    "",
    response_model=Page[ExecutionPosition],
    responses=problem_responses()
    | {200: {"content": {_STREAM: {"schema": {"type": "string", "description": "Server-sent events."}}}}},
    openapi_extra=NEEDS_USER,
)
async def follow_executions(
    request: Request,
    caller: CallerOf,
    credential: CredentialOf,
    services: ServicesOf,
    execution: Annotated[
        list[Annotated[str, Query(pattern=_POSITION)]] | None,
        Query(
            max_length=MOST_EXECUTIONS,
            description="An execution's id; with `:SEQUENCE` only events with a greater sequence.",
        ),
    ] = None,
) -> Response:
    """Follow several logs at once; without `Accept: text/event-stream`: how far each of them goes.

    Frames have the event's type and, as data, `execution_id` and `event`: what the stream of that execution
    alone would have as data. Besides: `log.ended`, `log.missing` (nothing of that id is seen), and
    `executions.changed`: something has become of one's executions, which is told at most once a second.
    """
    positions = dict(_parse(each) for each in execution or ())
    found = await _load(services, positions, caller)
    if _STREAM in request.headers.get("accept", ""):
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return EventSourceResponse(_stream(services, positions, found, credential), headers=headers)
    items = [
        ExecutionPosition(execution_id=each, phase=state.phase, last_sequence=state.last_sequence)
        for each, state in found.items()
    ]
    return Response(Page[ExecutionPosition](items=items).model_dump_json(), media_type="application/json")


def _parse(position: str) -> tuple[str, int]:
    execution_id, _, after = position.partition(":")
    if int(after or 0) > MAX_SEQUENCE:
        raise InvalidRequest(f"{position!r} is not an execution's id and a sequence")
    return execution_id, int(after or 0)


async def _load(
    services: Services, positions: Mapping[str, int], caller: Caller
) -> dict[str, ExecutionState]:
    found = dict[str, ExecutionState]()
    for execution_id in positions:
        with contextlib.suppress(NotFound):
            found[execution_id] = await services.executions.load(execution_id, caller)
    return found


async def _stream(
    services: Services,
    positions: Mapping[str, int],
    found: Mapping[str, ExecutionState],
    credential: Credential,
) -> AsyncGenerator[bytes]:
    yield b": connected\n\n"
    followed = dict[str, int]()
    for execution_id, after in positions.items():
        state = found.get(execution_id)
        if state is None:
            yield _frame("log.missing", execution_id)
        elif state.phase.is_terminal and after >= state.last_sequence:
            yield _frame("log.ended", execution_id)
        else:
            followed[execution_id] = after
    caller = credential.caller
    owner = None if caller.sees_all else caller.owner
    async with contextlib.aclosing(services.feed.follow_many(followed, owner)) as all_told:
        async for told in all_told:
            if not credential.holds:
                return
            yield _frames(told)


def _frames(told: Told) -> bytes:
    if told.is_heartbeat:
        return HEARTBEAT
    if told.execution_id is None:
        return bytes(format_sse_event(event="executions.changed", data_str="{}"))
    if told.has_ended:
        return _frame("log.ended", told.execution_id)
    return b"".join(
        _frame(
            item.type,
            told.execution_id,
            item.to_json() if isinstance(item, StoredEvent) else item.body,
            item.sequence if isinstance(item, StoredEvent) else None,
        )
        for item in told.batch
    )


def _frame(event: str, execution_id: str, body: str = "null", sequence: int | None = None) -> bytes:
    # Put together without parsing the body.
    data = f'{{"execution_id":{json.dumps(execution_id)},"event":{body}}}'
    position = None if sequence is None else f"{execution_id}:{sequence}"
    return bytes(format_sse_event(id=position, event=event, data_str=data))
