"""Routes of `/v1/inputs`: what executions ask of people."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request

from stigmer_contract.api import InputResource, Page, ResolveInput, TokenScope
from stigmer_contract.inputs import InputKind
from stigmer_server.api.access import CallerOf, CredentialOf, GuardedRoute, needs
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import IDENTIFIER, Cursor, IdempotencyKey, Limit, ServicesOf
from stigmer_server.errors import Conflict, IdempotencyKeyReused, NotFound
from stigmer_server.inputs import Answerer
from stigmer_server.pages import DEFAULT_PAGE_SIZE

router = APIRouter(prefix="/v1/inputs", tags=["inputs"], route_class=GuardedRoute)

NEEDS_DECIDER = needs(TokenScope.USER, TokenScope.APPROVE)
InputId = Annotated[str, Path(pattern=IDENTIFIER)]


@router.get("", responses=problem_responses(), openapi_extra=NEEDS_DECIDER)
async def list_inputs(
    caller: CallerOf,
    services: ServicesOf,
    limit: Limit = DEFAULT_PAGE_SIZE,
    cursor: Cursor = None,
    execution_id: Annotated[str | None, Query(max_length=64)] = None,
    kind: InputKind | None = None,
    state: Literal["open", "resolved"] = "open",
) -> Page[InputResource]:
    """What executions that the caller sees ask of people, oldest first; by default what waits."""
    return await services.inputs.list(
        caller, limit, cursor, execution_id=execution_id, kind=kind, is_open=state == "open"
    )


@router.get("/{input_id}", responses=problem_responses(NotFound), openapi_extra=NEEDS_DECIDER)
async def get_input(input_id: InputId, caller: CallerOf, services: ServicesOf) -> InputResource:
    """One input, with all of its content."""
    return await services.inputs.get(input_id, caller)


@router.post(
    "/{input_id}",
    responses=problem_responses(NotFound, Conflict, IdempotencyKeyReused),
    openapi_extra=NEEDS_DECIDER,
)
async def resolve_input(
    input_id: InputId,
    body: ResolveInput,
    request: Request,
    credential: CredentialOf,
    services: ServicesOf,
    idempotency_key: IdempotencyKey = None,
) -> InputResource:
    """Decide. The first decision holds; a later one is answered 409, with who decided and when.

    The same key from the same caller acts once.
    """
    origin = None if request.client is None else request.client.host
    who = Answerer(credential.caller, credential.name, origin)
    return await services.inputs.resolve(input_id, body, who, idempotency_key)
