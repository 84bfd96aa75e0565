"""Routes of `/v1/blobs`."""

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from stigmer_contract.api import BlobResource
from stigmer_server.api.access import NEEDS_USER_OR_RUNNER, CallerOf, GuardedRoute, LeaseOf
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import ServicesOf
from stigmer_server.blob_grants import grant_to_owner, may_read
from stigmer_server.blobs import MAX_BLOB_BYTES
from stigmer_server.errors import Conflict, NotFound, PayloadTooLarge

router = APIRouter(prefix="/v1/blobs", tags=["blobs"], route_class=GuardedRoute)

_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


@router.put(
    "/{sha256}",
    max_body_size=MAX_BLOB_BYTES,
    responses=problem_responses(PayloadTooLarge, Conflict),
    openapi_extra=NEEDS_USER_OR_RUNNER | {"requestBody": {"required": True, "content": _BINARY}},
)
async def store_blob(
    sha256: str, request: Request, services: ServicesOf, caller: CallerOf, lease: LeaseOf
) -> BlobResource:
    """Store bytes under their SHA-256; what is there already stays."""
    if lease is not None:
        await services.leases.check_execution(lease, lease.execution_id)
    blob = await services.blobs.store(sha256, request.stream())
    # Only now: whoever has not brought the bytes may not read them.
    if lease is not None:
        await services.leases.grant_blob(lease, sha256)
    else:
        await services.database.write(lambda connection: grant_to_owner(connection, sha256, caller.owner))
    return blob


@router.get(
    "/{sha256}",
    response_class=FileResponse,
    responses=problem_responses(NotFound, Conflict)
    | {200: {"content": _BINARY, "description": "The bytes."}},
    openapi_extra=NEEDS_USER_OR_RUNNER,
)
async def get_blob(sha256: str, services: ServicesOf, caller: CallerOf, lease: LeaseOf) -> FileResponse:
    """The bytes of a blob that the caller, a session that it sees, or the lease's session has brought."""
    if lease is not None:
        await services.leases.check_blob(lease, sha256)
    elif not await services.database.read(lambda connection: may_read(connection, sha256, caller)):
        raise NotFound("blob", sha256)
    return FileResponse(
        services.blobs.find(sha256),
        media_type="application/octet-stream",
        headers={"Cache-Control": "private, max-age=31536000, immutable"},
    )
