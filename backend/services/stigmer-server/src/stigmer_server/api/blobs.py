"""Routes of `/v1/blobs`."""

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from stigmer_contract.api import BlobResource
from stigmer_server.api.access import NEEDS_USER_OR_RUNNER, GuardedRoute, LeaseOf
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import ServicesOf
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
async def store_blob(sha256: str, request: Request, services: ServicesOf, lease: LeaseOf) -> BlobResource:
    """Store bytes under their SHA-256; what is there already stays."""
    if lease is not None:
        await services.leases.check_execution(lease, lease.execution_id)
    return await services.blobs.store(sha256, request.stream())


@router.get(
    "/{sha256}",
    response_class=FileResponse,
    responses=problem_responses(NotFound, Conflict)
    | {200: {"content": _BINARY, "description": "The bytes."}},
    openapi_extra=NEEDS_USER_OR_RUNNER,
)
async def get_blob(sha256: str, services: ServicesOf, lease: LeaseOf) -> FileResponse:
    """The bytes of a blob. To a runner only what the logs that it may read name."""
    if lease is not None:
        await services.leases.check_blob(lease, sha256)
    return FileResponse(
        services.blobs.find(sha256),
        media_type="application/octet-stream",
        headers={"Cache-Control": "private, max-age=31536000, immutable"},
    )
