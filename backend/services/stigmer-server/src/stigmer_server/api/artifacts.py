"""Routes of `/v1/executions/{id}/artifacts`."""

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import FileResponse

from stigmer_contract.api import ArtifactList
from stigmer_server.api.access import NEEDS_USER, CallerOf, GuardedRoute
from stigmer_server.api.downloads import BINARY, URL_TOO_LONG, download_headers
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import ExecutionId, ServicesOf
from stigmer_server.errors import NotFound

router = APIRouter(prefix="/v1/executions", tags=["executions"], route_class=GuardedRoute)


@router.get("/{execution_id}/artifacts", responses=problem_responses(NotFound), openapi_extra=NEEDS_USER)
async def list_artifacts(execution_id: ExecutionId, caller: CallerOf, services: ServicesOf) -> ArtifactList:
    """What an execution left behind when it ended, as `spec.artifacts` asks for."""
    await services.executions.load(execution_id, caller)
    return await services.artifacts.list(execution_id)


@router.get(
    "/{execution_id}/artifacts/{path:path}",
    response_class=FileResponse,
    responses=problem_responses(NotFound)
    | URL_TOO_LONG
    | {200: {"content": BINARY, "description": "The bytes."}},
    openapi_extra=NEEDS_USER,
)
async def get_artifact(
    execution_id: ExecutionId,
    path: Annotated[str, Path(max_length=4096)],
    caller: CallerOf,
    services: ServicesOf,
) -> FileResponse:
    """The bytes of one artifact, as an attachment."""
    await services.executions.load(execution_id, caller)
    artifact = await services.artifacts.find(execution_id, path)
    return FileResponse(
        services.blobs.find(artifact.sha256),
        media_type="application/octet-stream",
        headers=download_headers(artifact.path),
    )
