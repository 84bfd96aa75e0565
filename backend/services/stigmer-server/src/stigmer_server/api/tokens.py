"""Routes of `/v1/tokens`."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from stigmer_contract.api import (
    CallerResource,
    CreatedToken,
    CreateToken,
    Page,
    TokenResource,
    TokenScope,
)
from stigmer_server.api.access import NEEDS_ADMIN, NEEDS_USER, CallerOf, GuardedRoute, credential_of, needs
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import Cursor, Limit, ServicesOf
from stigmer_server.errors import Conflict, NotFound
from stigmer_server.pages import DEFAULT_PAGE_SIZE

router = APIRouter(prefix="/v1/tokens", tags=["tokens"], route_class=GuardedRoute)

Name = Annotated[str, Path(max_length=63)]


@router.post("", status_code=201, responses=problem_responses(Conflict), openapi_extra=NEEDS_ADMIN)
async def create_token(
    body: CreateToken, request: Request, response: Response, services: ServicesOf
) -> CreatedToken:
    """Make a token. Its text is in this answer only.

    There is no `Idempotency-Key`, since the answer is kept nowhere: where it was lost, revoke the token.
    """
    created = await services.tokens.create(body, credential_of(request))
    response.headers["Location"] = f"/v1/tokens/{created.name}"
    return created


@router.get("", responses=problem_responses(), openapi_extra=NEEDS_USER)
async def list_tokens(
    caller: CallerOf,
    services: ServicesOf,
    limit: Limit = DEFAULT_PAGE_SIZE,
    cursor: Cursor = None,
    revoked: Annotated[bool, Query(description="Whether revoked ones are listed too.")] = False,
) -> Page[TokenResource]:
    """The caller's tokens without their texts, newest first; everybody's for an administrator."""
    return await services.tokens.list(caller, limit, cursor, with_revoked=revoked)


@router.get("/self", responses=problem_responses(), openapi_extra=needs(*TokenScope))
async def get_own_token(request: Request) -> CallerResource:
    """Whose token the call carries."""
    credential = credential_of(request)
    return CallerResource(
        name=credential.name,
        scope=credential.scope,
        owner=credential.owner,
        expires_at=credential.expiry,
    )


@router.delete("/{name}", status_code=204, responses=problem_responses(NotFound), openapi_extra=NEEDS_USER)
async def revoke_token(name: Name, caller: CallerOf, services: ServicesOf) -> None:
    """Revoke a token: at once on this server, within seconds on others of the same database."""
    await services.tokens.revoke(name, caller)
