"""Routes of the kinds of calls that people have approved for an execution."""

from typing import Annotated

from fastapi import APIRouter, Path, Request

from stigmer_contract.api import GrantResource, Page, TokenScope
from stigmer_server.api.access import CallerOf, CredentialOf, GuardedRoute, needs
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import IDENTIFIER, ExecutionId, ServicesOf
from stigmer_server.errors import Conflict, NotFound
from stigmer_server.inputs import Answerer

router = APIRouter(prefix="/v1/executions", tags=["inputs"], route_class=GuardedRoute)

NEEDS_DECIDER = needs(TokenScope.USER, TokenScope.APPROVE)


@router.get("/{execution_id}/grants", responses=problem_responses(NotFound), openapi_extra=NEEDS_DECIDER)
async def list_grants(
    execution_id: ExecutionId, caller: CallerOf, services: ServicesOf
) -> Page[GrantResource]:
    """The kinds of calls that run without a question, oldest first; those that were revoked among them."""
    state = await services.executions.load(execution_id, caller)
    return Page(items=list(await services.grants.list(state.execution_id)))


@router.delete(
    "/{execution_id}/grants/{input_id}",
    responses=problem_responses(NotFound, Conflict),
    openapi_extra=NEEDS_DECIDER,
)
async def revoke_grant(
    execution_id: ExecutionId,
    input_id: Annotated[str, Path(pattern=IDENTIFIER)],
    request: Request,
    credential: CredentialOf,
    services: ServicesOf,
) -> GrantResource:
    """Have calls of that kind asked about again. Revoking it again changes nothing."""
    state = await services.executions.load(execution_id, credential.caller)
    origin = None if request.client is None else request.client.host
    who = Answerer(credential.caller, credential.name, origin)
    return await services.grants.revoke(state, input_id, who)
