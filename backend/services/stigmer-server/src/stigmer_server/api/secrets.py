"""Routes of `/v1/secrets`. None of them gives a value back."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Response

from stigmer_contract.api import Page, SecretResource, SecretsKeyRotation, SetSecret
from stigmer_contract.manifest import SECRET_NAME_PATTERN
from stigmer_server.api.access import NEEDS_ADMIN, NEEDS_USER, GuardedRoute
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import Cursor, Limit, ServicesOf
from stigmer_server.errors import Conflict, NotFound, SecretsKeyUnusable
from stigmer_server.pages import DEFAULT_PAGE_SIZE

router = APIRouter(prefix="/v1/secrets", tags=["secrets"], route_class=GuardedRoute)

Name = Annotated[str, Path(pattern=SECRET_NAME_PATTERN)]


@router.put(
    "/{name}",
    responses={201: {"model": SecretResource, "description": "The secret is new."}}
    | problem_responses(SecretsKeyUnusable),
    openapi_extra=NEEDS_ADMIN,
)
async def set_secret(
    name: Name, request: SetSecret, response: Response, services: ServicesOf
) -> SecretResource:
    """Keep a value under a name, encrypted, in the place of the one before."""
    secret, is_new = await services.secrets.set(name, request.value)
    response.status_code = HTTPStatus.CREATED if is_new else HTTPStatus.OK
    return secret


@router.get("", responses=problem_responses(), openapi_extra=NEEDS_USER)
async def list_secrets(
    services: ServicesOf, limit: Limit = DEFAULT_PAGE_SIZE, cursor: Cursor = None
) -> Page[SecretResource]:
    """Secrets by name, without their values."""
    return await services.secrets.list(limit, cursor)


@router.delete("/{name}", status_code=204, responses=problem_responses(NotFound), openapi_extra=NEEDS_ADMIN)
async def delete_secret(name: Name, services: ServicesOf) -> None:
    """Forget a secret; executions that begin or go on afterwards fail where they need it."""
    await services.secrets.delete(name)


@router.post(
    "/rotate-key", responses=problem_responses(Conflict, SecretsKeyUnusable), openapi_extra=NEEDS_ADMIN
)
async def rotate_key(services: ServicesOf) -> SecretsKeyRotation:
    """Encrypt every secret with a new key, and forget the old one."""
    return await services.secrets.rotate_key()
