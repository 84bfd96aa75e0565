"""Routes of `/v1/sessions/{id}/files`: what is in a session's workspace, where the server reaches it."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse

from stigmer_contract.api import MAX_PATH_CHARACTERS, FileListing
from stigmer_server.api.access import NEEDS_USER, CallerOf, GuardedRoute
from stigmer_server.api.downloads import BINARY, URL_TOO_LONG, download_headers
from stigmer_server.api.own_sessions import own_session
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import ServicesOf, SessionId
from stigmer_server.errors import Conflict, NotFound

router = APIRouter(prefix="/v1/sessions", tags=["sessions"], route_class=GuardedRoute)


@router.get(
    "/{session_id}/files",
    responses=problem_responses(NotFound, Conflict) | URL_TOO_LONG,
    openapi_extra=NEEDS_USER,
)
async def list_session_files(
    session_id: SessionId,
    caller: CallerOf,
    services: ServicesOf,
    path: Annotated[str, Query(max_length=MAX_PATH_CHARACTERS, description="Left out: the root.")] = "",
) -> FileListing:
    """One directory of a session's workspace; 409 says why the server does not reach it."""
    session = await own_session(services, session_id, caller)
    return await services.session_files.list(session, path)


@router.get(
    "/{session_id}/files/{path:path}",
    response_class=StreamingResponse,
    responses=problem_responses(NotFound, Conflict)
    | URL_TOO_LONG
    | {200: {"content": BINARY, "description": "The bytes."}},
    openapi_extra=NEEDS_USER,
)
async def get_session_file(
    session_id: SessionId,
    path: Annotated[str, Path(max_length=MAX_PATH_CHARACTERS)],
    caller: CallerOf,
    services: ServicesOf,
) -> StreamingResponse:
    """The bytes of one file of a session's workspace as it is now, as an attachment."""
    session = await own_session(services, session_id, caller)
    pieces = await services.session_files.open(session, path)
    return StreamingResponse(pieces, media_type="application/octet-stream", headers=download_headers(path))
