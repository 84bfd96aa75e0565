"""Routes that only runners call: take an execution, append to its log, show live events.

Bodies are read as JSON text straight into their models, and the log's JSON is put into answers as it
stands, since these calls are most of the server's work.
"""

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, TypeAdapter

from stigmer_contract.api import AppendEvents, AppendResult, LegGrant, PublishLiveEvents, StartLeg
from stigmer_contract.events import Payload
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import ExecutionId, ServicesOf
from stigmer_server.errors import Conflict, NotFound, PayloadTooLarge
from stigmer_server.executions import Grant

router = APIRouter(prefix="/v1/executions", tags=["runners"])

_JSON: Final = "application/json"
_PAYLOAD: Final[TypeAdapter[Payload]] = TypeAdapter(Payload)
_NAMES: Final = TypeAdapter(list[str])


def _body(model: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a body that the route reads itself; `openapi` adds the model."""
    content = {_JSON: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    "/{execution_id}/legs",
    status_code=201,
    response_model=LegGrant,
    responses=problem_responses(NotFound, Conflict),
)
async def start_leg(execution_id: ExecutionId, request: StartLeg, services: ServicesOf) -> Response:
    """Take the execution, fencing off every earlier attempt."""
    grant = await services.executions.start_leg(execution_id, request)
    return Response(_grant_json(grant), 201, media_type=_JSON)


@router.post(
    "/{execution_id}/events",
    response_model=AppendResult,
    responses=problem_responses(NotFound, Conflict, PayloadTooLarge),
    openapi_extra=_body(AppendEvents),
)
async def append_events(execution_id: ExecutionId, request: Request, services: ServicesOf) -> Response:
    """Append to the log: all or nothing, and once only for each `append_id`."""
    append = AppendEvents.model_validate_json(await request.body())
    result = await services.executions.append(execution_id, append)
    return Response(result.model_dump_json(), media_type=_JSON)


@router.post(
    "/{execution_id}/live",
    status_code=204,
    responses=problem_responses(NotFound, Conflict),
    openapi_extra=_body(PublishLiveEvents),
)
async def publish_live_events(execution_id: ExecutionId, request: Request, services: ServicesOf) -> Response:
    """Show events to whoever watches; they are stored nowhere."""
    live = PublishLiveEvents.model_validate_json(await request.body())
    await services.executions.publish_live(execution_id, live)
    return Response(status_code=204)


def _grant_json(grant: Grant) -> str:
    fields = {
        "attempt": str(grant.state.attempt),
        "execution": grant.state.to_resource().model_dump_json(),
        "spec": grant.first.spec.model_dump_json(by_alias=True),
        "input": _PAYLOAD.dump_json(grant.first.input).decode(),
        "workspace": TypeAdapter(str | None).dump_json(grant.workspace).decode(),
        "previous_execution_ids": _NAMES.dump_json(list(grant.previous_execution_ids)).decode(),
        "events": f"[{','.join(event.to_json() for event in grant.stored)}]",
    }
    members = ",".join(f'"{name}":{text}' for name, text in fields.items())
    return f"{{{members}}}"
