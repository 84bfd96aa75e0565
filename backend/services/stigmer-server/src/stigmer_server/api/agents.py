"""Routes of `/v1/agents`."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Response

from stigmer_contract.api import AgentResource, Page, SetOwner
from stigmer_contract.manifest import AgentManifest
from stigmer_server.api.access import (
    NEEDS_ADMIN,
    NEEDS_USER,
    CallerOf,
    CredentialOf,
    GuardedRoute,
    check_model,
)
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import Cursor, Limit, OwnerName, ServicesOf
from stigmer_server.errors import Conflict, NotFound
from stigmer_server.pages import DEFAULT_PAGE_SIZE

router = APIRouter(prefix="/v1/agents", tags=["agents"], route_class=GuardedRoute)

Name = Annotated[str, Path(max_length=63)]


@router.put(
    "/{name}",
    responses={201: {"model": AgentResource, "description": "The agent is new."}}
    | problem_responses(NotFound),
    openapi_extra=NEEDS_USER,
)
async def apply_agent(
    name: Name,
    manifest: AgentManifest,
    response: Response,
    credential: CredentialOf,
    services: ServicesOf,
    owner: OwnerName = None,
) -> AgentResource:
    """Make the caller's agent what the manifest says; the version counts up where that is a change."""
    check_model(manifest.spec.model, credential)
    agent, is_new = await services.agents.apply(name, manifest, credential.caller, owner)
    response.status_code = HTTPStatus.CREATED if is_new else HTTPStatus.OK
    return agent


@router.get("", responses=problem_responses(), openapi_extra=NEEDS_USER)
async def list_agents(
    caller: CallerOf, services: ServicesOf, limit: Limit = DEFAULT_PAGE_SIZE, cursor: Cursor = None
) -> Page[AgentResource]:
    """The agents that the caller sees, by name and owner."""
    return await services.agents.list(caller, limit, cursor)


@router.get("/{name}", responses=problem_responses(NotFound), openapi_extra=NEEDS_USER)
async def get_agent(
    name: Name, caller: CallerOf, services: ServicesOf, owner: OwnerName = None
) -> AgentResource:
    """One applied agent."""
    return await services.agents.get(name, caller, owner)


@router.put("/{name}/owner", responses=problem_responses(NotFound, Conflict), openapi_extra=NEEDS_ADMIN)
async def set_agent_owner(
    name: Name, request: SetOwner, caller: CallerOf, services: ServicesOf, owner: OwnerName = None
) -> AgentResource:
    """Give an agent to somebody, or share it."""
    return await services.agents.set_owner(name, request, caller, owner)


@router.delete("/{name}", status_code=204, responses=problem_responses(NotFound), openapi_extra=NEEDS_USER)
async def delete_agent(name: Name, caller: CallerOf, services: ServicesOf, owner: OwnerName = None) -> None:
    """Forget an agent; its executions stay."""
    await services.agents.delete(name, caller, owner)
