"""Routes of `/v1/sessions`."""

from fastapi import APIRouter, Response

from stigmer_contract.api import CreateSession, Page, SessionResource, SetOwner
from stigmer_contract.events import ExecutionStarted
from stigmer_contract.exported_sessions import ImportSession
from stigmer_server.api.access import (
    NEEDS_ADMIN,
    NEEDS_USER,
    CallerOf,
    CredentialOf,
    GuardedRoute,
    check_model,
)
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import (
    Cursor,
    IdempotencyKey,
    Limit,
    ServicesOf,
    SessionId,
    created_response,
)
from stigmer_server.errors import Conflict, IdempotencyKeyReused, NotFound
from stigmer_server.pages import DEFAULT_PAGE_SIZE

router = APIRouter(prefix="/v1/sessions", tags=["sessions"], route_class=GuardedRoute)


@router.post(
    "",
    status_code=201,
    response_model=SessionResource,
    responses=problem_responses(IdempotencyKeyReused),
    openapi_extra=NEEDS_USER,
)
async def create_session(
    request: CreateSession,
    services: ServicesOf,
    credential: CredentialOf,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Make a session, which belongs to the caller."""
    workspace = await services.workspaces.check(request.workspace, credential)
    request = request.model_copy(update={"workspace": workspace})
    answer = await services.sessions.create(request, credential.caller, idempotency_key)
    return created_response(answer, "/v1/sessions", "session_id")


@router.post(
    "/import",
    status_code=201,
    responses=problem_responses(NotFound),
    openapi_extra=NEEDS_USER,
)
async def import_session(
    request: ImportSession, response: Response, services: ServicesOf, credential: CredentialOf
) -> SessionResource:
    """Make a session of what was exported: a new one of the caller's, with new ids, all or nothing."""
    document = await services.session_imports.read(request, credential.caller)
    for execution in document.executions:
        first = execution.events[0].event
        if isinstance(first, ExecutionStarted):
            for model in (first.model, first.spec.model):
                check_model(model, credential)
    session = await services.session_imports.insert(document, credential.caller)
    response.headers["Location"] = f"/v1/sessions/{session.session_id}"
    return session


@router.get("", responses=problem_responses(), openapi_extra=NEEDS_USER)
async def list_sessions(
    caller: CallerOf, services: ServicesOf, limit: Limit = DEFAULT_PAGE_SIZE, cursor: Cursor = None
) -> Page[SessionResource]:
    """The sessions that the caller sees, newest first."""
    return await services.sessions.list(caller, limit, cursor)


@router.get("/{session_id}", responses=problem_responses(NotFound), openapi_extra=NEEDS_USER)
async def get_session(session_id: SessionId, caller: CallerOf, services: ServicesOf) -> SessionResource:
    """One session."""
    return await services.sessions.get(session_id, caller)


@router.put("/{session_id}/owner", responses=problem_responses(NotFound), openapi_extra=NEEDS_ADMIN)
async def set_session_owner(
    session_id: SessionId, request: SetOwner, services: ServicesOf
) -> SessionResource:
    """Give a session to somebody, or share it."""
    return await services.sessions.set_owner(session_id, request)


@router.post("/{session_id}/compact", responses=problem_responses(NotFound), openapi_extra=NEEDS_USER)
async def compact_session(session_id: SessionId, caller: CallerOf, services: ServicesOf) -> SessionResource:
    """Let the session's next execution begin with a compacted conversation."""
    return await services.sessions.ask_for_compaction(session_id, caller)


@router.delete(
    "/{session_id}",
    status_code=204,
    responses=problem_responses(NotFound, Conflict),
    openapi_extra=NEEDS_USER,
)
async def delete_session(session_id: SessionId, caller: CallerOf, services: ServicesOf) -> None:
    """Forget a session, its executions and their logs. Its directory stays."""
    await services.sessions.delete(session_id, caller)
