"""Routes that only runners call: take an execution, append to its log, show live events.

Appends and live events are most of the server's work, so they are served without FastAPI's machinery, which
takes four times as long as the append itself; FastAPI describes them all the same. Bodies are read as JSON
text straight into their models, and the log's JSON is put into answers as it stands.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar, cast

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from stigmer_contract.api import (
    AppendEvents,
    AppendResult,
    EarlierLog,
    HoldLeg,
    LegGrant,
    LegHeld,
    PublishLiveEvents,
    Resumption,
    StartLeg,
)
from stigmer_contract.attachments import Attachment
from stigmer_contract.events import LOG_FORMAT, BlobPayload, EnvironmentDescribed, ForkOrigin, Payload
from stigmer_contract.inspections import Inspection
from stigmer_contract.manifest_approval import ApprovalPolicy
from stigmer_server.api.access import (
    NEEDS_RUNNER,
    GuardedRoute,
    allowed_scopes,
    check_attempt,
    check_scope,
    credential_of,
    leased,
)
from stigmer_server.api.json_bodies import check_members
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import IDENTIFIER, ExecutionId, ServicesOf, execution_id_of, services_of
from stigmer_server.errors import Conflict, NotFound, PayloadTooLarge
from stigmer_server.executions import Grant
from stigmer_server.leases import Lease
from stigmer_server.log_formats import LogFormats
from stigmer_server.lost_legs import pause_seconds

router = APIRouter(prefix="/v1/executions", tags=["runners"], route_class=GuardedRoute)

ModelT = TypeVar("ModelT", bound=BaseModel)

_JSON: Final = "application/json"
_PAYLOAD: Final[TypeAdapter[Payload]] = TypeAdapter(Payload)
_INTEGER: Final = TypeAdapter(int)
_NAMES: Final = TypeAdapter(list[str])
_ATTACHMENTS: Final = TypeAdapter(list[Attachment])
_PAYLOADS: Final = TypeAdapter(list[Payload])
_EARLIER: Final = TypeAdapter(list[EarlierLog])
_RESUMPTION: Final = TypeAdapter(Resumption | None)
_ENVIRONMENTS: Final = TypeAdapter(list[EnvironmentDescribed])
_NEWEST: Final = f'"log_format":{LOG_FORMAT},'.encode()
_RUNNERS: Final = allowed_scopes(NEEDS_RUNNER)
_SECRETS: Final = TypeAdapter(dict[str, str])
_INSPECTION: Final = TypeAdapter(Inspection | None)


def _read_by_hand(model: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a path and a body that the route reads itself; `app` adds the model."""
    identifier = {"type": "string", "pattern": IDENTIFIER}
    content = {_JSON: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    return NEEDS_RUNNER | {
        "parameters": [{"name": "execution_id", "in": "path", "required": True, "schema": identifier}],
        "requestBody": {"required": True, "content": content},
    }


@router.post(
    "/{execution_id}/legs",
    status_code=201,
    response_model=LegGrant,
    responses=problem_responses(NotFound, Conflict),
    openapi_extra=NEEDS_RUNNER,
)
async def start_leg(
    execution_id: ExecutionId, body: StartLeg, request: Request, services: ServicesOf
) -> Response:
    """Take the execution, fencing off every earlier attempt.

    Asked again with the same key because the answer was lost, it grants the same attempt. Nothing tells a
    runner's token of an execution's id, which nobody can guess, but Temporal when it dispatches a leg.
    """
    try:
        grant = await services.executions.start_leg(execution_id, body)
    except NotFound:
        services.installation.note_unknown_leg()
        raise
    lease = services.leases.issue(credential_of(request), execution_id, grant.state.attempt, body.runner)
    return Response(_grant_json(grant, lease), 201, media_type=_JSON)


async def hold_leg(request: Request) -> Response:
    """Go on with a leg whose activity Temporal may have lost, or whose runner is to end.

    Other runners that ask for the execution wait, for as long as this is said again every few seconds.
    """
    services = await services_of(request)
    execution_id = execution_id_of(request)
    lease = await leased(request, execution_id)
    hold = await _read(request, HoldLeg)
    check_attempt(lease, hold.attempt)
    held = await services.executions.hold_leg(execution_id, hold)
    return Response(held.model_dump_json(), media_type=_JSON)


async def append_events(request: Request) -> Response:
    """Append to the log: all or nothing, and once only for each `append_id`."""
    services = await services_of(request)
    execution_id = execution_id_of(request)
    lease = await leased(request, execution_id)
    append = await _read_append(request, execution_id, services.formats, lease)
    check_attempt(lease, append.attempt)
    result = await services.executions.append(execution_id, append)
    return Response(result.model_dump_json(), media_type=_JSON)


async def publish_live_events(request: Request) -> Response:
    """Show events to whoever watches; they are stored nowhere."""
    services = await services_of(request)
    execution_id = execution_id_of(request)
    lease = await leased(request, execution_id)
    live = await _read(request, PublishLiveEvents)
    check_attempt(lease, live.attempt)
    await services.executions.publish_live(execution_id, live)
    return Response(status_code=204)


async def _read(request: Request, model: type[ModelT]) -> ModelT:
    body = await request.body()
    await check_members(body)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


async def _read_append(
    request: Request, execution_id: str, formats: LogFormats, lease: Lease | None
) -> AppendEvents:
    """What is to be appended, in the newest words.

    A runner of version 0.1.0 may hold a leg from before this server's start.
    """
    await check_members(await request.body())
    fields = _fields_of_first_format(await request.body())
    if fields is None:
        return await _read(request, AppendEvents)
    # Before anything of it is looked at: what it names is read, and stored in another form.
    check_attempt(lease, _attempt_of(fields))
    events = await formats.newest_events(execution_id, fields["events"])
    try:
        return AppendEvents.model_validate(fields | {"events": events, "log_format": LOG_FORMAT})
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


def _attempt_of(fields: dict[str, Any]) -> int:
    try:
        return _INTEGER.validate_python(fields.get("attempt"))
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


def _fields_of_first_format(body: bytes) -> dict[str, Any] | None:
    """The body of an append in the log's first form, as its members; None where it has another form."""
    if _NEWEST in body:  # what every runner of today writes, which need not be read twice
        return None
    try:
        fields = from_json(body)
    except ValueError:
        return None
    if not isinstance(fields, dict) or cast("dict[str, Any]", fields).get("log_format", 1) != 1:
        return None
    events = cast("dict[str, Any]", fields).get("events")
    if not isinstance(events, list) or not all(isinstance(each, dict) for each in cast("list[Any]", events)):
        return None
    return cast("dict[str, Any]", fields)


class _DirectRoute(Route):
    """Names itself in the scope, as FastAPI's routes do, for whoever counts requests by route."""

    is_audited = False
    """The execution's own log tells of it."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        check_scope(scope, _RUNNERS)
        await super().handle(scope, receive, send)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return match, child_scope if match is Match.NONE else {**child_scope, "route": self}


served_directly: Final = [
    _DirectRoute("/v1/executions/{execution_id}/events", append_events, methods=["POST"]),
    _DirectRoute("/v1/executions/{execution_id}/live", publish_live_events, methods=["POST"]),
    _DirectRoute("/v1/executions/{execution_id}/hold", hold_leg, methods=["POST"]),
]
"""Must come before all other routes."""

described: Final = APIRouter(prefix="/v1/executions", tags=["runners"], route_class=GuardedRoute)
"""The same for OpenAPI; never served."""
described.post(
    "/{execution_id}/events",
    response_model=AppendResult,
    responses=problem_responses(NotFound, Conflict, PayloadTooLarge),
    openapi_extra=_read_by_hand(AppendEvents),
)(append_events)
described.post(
    "/{execution_id}/live",
    status_code=204,
    responses=problem_responses(NotFound, Conflict, PayloadTooLarge),
    openapi_extra=_read_by_hand(PublishLiveEvents),
)(publish_live_events)
described.post(
    "/{execution_id}/hold",
    response_model=LegHeld,
    responses=problem_responses(NotFound, Conflict),
    openapi_extra=_read_by_hand(HoldLeg),
)(hold_leg)


def _grant_json(grant: Grant, lease: str) -> str:
    fields = {
        "attempt": str(grant.state.attempt),
        "execution": grant.state.to_resource().model_dump_json(),
        "spec": grant.first.spec.model_dump_json(by_alias=True),
        "input": _PAYLOAD.dump_json(grant.first.input).decode(),
        "attachments": _ATTACHMENTS.dump_json(grant.first.attachments).decode(),
        "secrets": _secrets_json(grant.secrets),
        "model_keys": _secrets_json(grant.model_keys),
        "workspace": TypeAdapter(str | None).dump_json(grant.workspace).decode(),
        "history": _PAYLOADS.dump_json(list(grant.history.pieces)).decode(),
        "earlier": _EARLIER.dump_json(list(grant.history.earlier), exclude_none=True).decode(),
        "previous_execution_ids": _NAMES.dump_json(list(grant.previous_execution_ids)).decode(),
        "ancestors": _EARLIER.dump_json(list(grant.history.ancestors), exclude_none=True).decode(),
        "fork": TypeAdapter(ForkOrigin | None).dump_json(grant.first.fork).decode(),
        "resumption": _RESUMPTION.dump_json(grant.history.resumption).decode(),
        "environments": _ENVIRONMENTS.dump_json(list(grant.history.environments)).decode(),
        "snapshot": TypeAdapter(BlobPayload | None).dump_json(grant.snapshot).decode(),
        "approve": TypeAdapter(ApprovalPolicy | None).dump_json(grant.first.approve).decode(),
        "inspection": _INSPECTION.dump_json(grant.first.inspection).decode(),
        "events": f"[{','.join(event.to_json() for event in grant.stored)}]",
        "seconds_left": TypeAdapter(float | None).dump_json(grant.seconds_left).decode(),
        "lease": TypeAdapter(str).dump_json(lease).decode(),
        "lost_runners": _NAMES.dump_json([leg.runner for leg in grant.state.lost_legs]).decode(),
        "takes_blobs": "true",
        "pause_seconds": str(pause_seconds(grant.state.lost_legs)),
    }
    members = ",".join(f'"{name}":{text}' for name, text in fields.items())
    return f"{{{members}}}"


def _secrets_json(secrets: Mapping[str, SecretStr]) -> str:
    return _SECRETS.dump_json({name: value.get_secret_value() for name, value in secrets.items()}).decode()
