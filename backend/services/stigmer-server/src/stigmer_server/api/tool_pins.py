"""Routes of pinned tools: runners read and report them, people look at and accept what changed."""

from typing import Annotated

from fastapi import APIRouter, Path, Request

from stigmer_contract.manifest_parts import DNS_LABEL
from stigmer_contract.tool_lists import AcceptTools, AgentTools, PinnedServer, ReportTools, ToolPins
from stigmer_server.api.access import NEEDS_RUNNER, NEEDS_USER, CallerOf, GuardedRoute, leased
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import ExecutionId, OwnerName, ServicesOf
from stigmer_server.errors import Conflict, NotFound

router = APIRouter(prefix="/v1", route_class=GuardedRoute)

Name = Annotated[str, Path(max_length=63)]
ServerName = Annotated[str, Path(pattern=DNS_LABEL)]


@router.get(
    "/executions/{execution_id}/tool-pins",
    tags=["runners"],
    responses=problem_responses(NotFound),
    openapi_extra=NEEDS_RUNNER,
)
async def get_pins(execution_id: ExecutionId, request: Request, services: ServicesOf) -> ToolPins:
    """What the execution's MCP servers are held to."""
    await leased(request, execution_id)
    return await services.tool_pins.of_execution(execution_id)


@router.put(
    "/executions/{execution_id}/tool-pins/{server}",
    status_code=204,
    tags=["runners"],
    responses=problem_responses(NotFound),
    openapi_extra=NEEDS_RUNNER,
)
async def report_tools(
    execution_id: ExecutionId, server: ServerName, found: ReportTools, request: Request, services: ServicesOf
) -> None:
    """Tell what a server was found to offer; whether that becomes the pin is the server's to decide."""
    await leased(request, execution_id)
    await services.tool_pins.report(execution_id, server, found.tool_list)


@router.get(
    "/agents/{name}/tool-pins",
    tags=["agents"],
    responses=problem_responses(NotFound),
    openapi_extra=NEEDS_USER,
)
async def get_agent_tools(
    name: Name, caller: CallerOf, services: ServicesOf, owner: OwnerName = None
) -> AgentTools:
    """What is known of the tools of an agent's MCP servers, for the caller's executions."""
    return await services.tool_pins.of_agent(name, caller, owner)


@router.post(
    "/agents/{name}/tool-pins/{server}/accept",
    tags=["agents"],
    responses=problem_responses(NotFound, Conflict),
    openapi_extra=NEEDS_USER,
)
async def accept_tools(
    name: Name,
    server: ServerName,
    body: AcceptTools,
    caller: CallerOf,
    services: ServicesOf,
    owner: OwnerName = None,
) -> PinnedServer:
    """Pin what a server was found to offer, for the caller's executions."""
    return await services.tool_pins.accept(name, server, body.digest, caller, owner)
