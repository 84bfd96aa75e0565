"""Routes of `/v1/secrets`. None of them gives a value back."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Response

from stigmer_contract.api import Page, SecretResource, SecretsKeyRotation, SetOwner, SetSecret
from stigmer_contract.manifest_parts import SECRET_NAME_PATTERN
from stigmer_server.api.access import NEEDS_ADMIN, NEEDS_USER, CallerOf, GuardedRoute
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import Cursor, Limit, OwnerName, ServicesOf
from stigmer_server.errors import Conflict, NotFound, SecretsKeyUnusable
from stigmer_server.pages import DEFAULT_PAGE_SIZE

router = APIRouter(prefix="/v1/secrets", tags=["secrets"], route_class=GuardedRoute)

Name = Annotated[str, Path(pattern=SECRET_NAME_PATTERN)]


@router.put(
    "/{name}",
    responses={201: {"model": SecretResource, "description": "The secret is new."}}
    | problem_responses(NotFound, SecretsKeyUnusable),
    openapi_extra=NEEDS_USER,
)
async def set_secret(
    name: Name,
    request: SetSecret,
    response: Response,
    caller: CallerOf,
    services: ServicesOf,
    owner: OwnerName = None,
) -> SecretResource:
    """Keep a value under a name of the caller's, encrypted, in the place of the one before."""
    secret, is_new = await services.secrets.set(name, request.value, caller, owner)
    response.status_code = HTTPStatus.CREATED if is_new else HTTPStatus.OK
    return secret


@router.get("", responses=problem_responses(), openapi_extra=NEEDS_USER)
async def list_secrets(
    caller: CallerOf, services: ServicesOf, limit: Limit = DEFAULT_PAGE_SIZE, cursor: Cursor = None
) -> Page[SecretResource]:
    """The secrets that the caller sees, by name and owner, without their values."""
    return await services.secrets.list(caller, limit, cursor)


@router.put(
    "/{name}/owner",
    responses=problem_responses(NotFound, Conflict, SecretsKeyUnusable),
    openapi_extra=NEEDS_ADMIN,
)
async def set_secret_owner(
    name: Name, request: SetOwner, caller: CallerOf, services: ServicesOf, owner: OwnerName = None
) -> SecretResource:
    """Give a secret to somebody, or share it."""
    return await services.secrets.set_owner(name, request, caller, owner)


@router.delete("/{name}", status_code=204, responses=problem_responses(NotFound), openapi_extra=NEEDS_USER)
async def delete_secret(name: Name, caller: CallerOf, services: ServicesOf, owner: OwnerName = None) -> None:
    """Forget a secret; executions that begin or go on afterwards fail where they need it."""
    await services.secrets.delete(name, caller, owner)


@router.post(
    "/rotate-key", responses=problem_responses(Conflict, SecretsKeyUnusable), openapi_extra=NEEDS_ADMIN
)
async def rotate_key(services: ServicesOf) -> SecretsKeyRotation:
    """Encrypt every secret with a new key, and forget the old one."""
    return await services.secrets.rotate_key()
