"""Routes of `/v1/mcp-logins`: people sign in at MCP servers; runners get what one server is called with."""

from typing import Annotated

from fastapi import APIRouter, Path, Request

from stigmer_contract.manifest_parts import DNS_LABEL
from stigmer_contract.mcp_logins import (
    BeginMcpLogin,
    FinishMcpLogin,
    McpLogin,
    McpLoginBegun,
    McpLogins,
    McpToken,
    WantMcpToken,
)
from stigmer_server.api.access import (
    NEEDS_RUNNER,
    NEEDS_USER,
    CallerOf,
    CredentialOf,
    GuardedRoute,
    leased,
)
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import ExecutionId, ServicesOf
from stigmer_server.errors import Conflict, NotFound, SecretsKeyUnusable
from stigmer_server.inputs import Answerer

router = APIRouter(prefix="/v1", route_class=GuardedRoute)

LoginId = Annotated[str, Path(max_length=64)]
ServerName = Annotated[str, Path(pattern=DNS_LABEL)]


@router.get("/mcp-logins", tags=["mcp"], responses=problem_responses(), openapi_extra=NEEDS_USER)
async def list_logins(caller: CallerOf, services: ServicesOf) -> McpLogins:
    """Where the caller has signed in; without tokens."""
    return McpLogins(logins=await services.mcp_logins.list(caller))


@router.post(
    "/mcp-logins",
    status_code=201,
    tags=["mcp"],
    responses=problem_responses(NotFound, Conflict),
    openapi_extra=NEEDS_USER,
)
async def begin_login(body: BeginMcpLogin, caller: CallerOf, services: ServicesOf) -> McpLoginBegun:
    """Find out how to sign in at an MCP server; a person then opens the page that the answer names."""
    return await services.mcp_logins.begin(body, caller)


@router.post(
    "/mcp-logins/{login_id}",
    tags=["mcp"],
    responses=problem_responses(NotFound, Conflict, SecretsKeyUnusable),
    openapi_extra=NEEDS_USER,
)
async def finish_login(
    login_id: LoginId,
    body: FinishMcpLogin,
    request: Request,
    credential: CredentialOf,
    services: ServicesOf,
) -> McpLogin:
    """Finish what was begun, with what the browser was sent back with."""
    origin = None if request.client is None else request.client.host
    who = Answerer(credential.caller, credential.name, origin)
    return await services.mcp_logins.finish(login_id, body, who)


@router.delete(
    "/mcp-logins/{login_id}",
    status_code=204,
    tags=["mcp"],
    responses=problem_responses(NotFound),
    openapi_extra=NEEDS_USER,
)
async def forget_login(login_id: LoginId, caller: CallerOf, services: ServicesOf) -> None:
    """Forget a sign-in, and take it back where the authorization server lets that be done."""
    await services.mcp_logins.forget(login_id, caller)


@router.post(
    "/executions/{execution_id}/mcp-tokens/{server}",
    tags=["runners"],
    responses=problem_responses(NotFound, Conflict),
    openapi_extra=NEEDS_RUNNER,
)
async def get_token(
    execution_id: ExecutionId, server: ServerName, body: WantMcpToken, request: Request, services: ServicesOf
) -> McpToken:
    """What a leg calls an MCP server with that its execution's manifest names: a token that lasts a while."""
    lease = await leased(request, execution_id)
    if lease is not None:
        await services.leases.check_execution(lease, execution_id)
    return await services.mcp_logins.token_for(execution_id, server, body.rejected)
