"""Which tokens a route lets in, declared beside it; a route without a declaration cannot be made.

The declaration stands in the route's OpenAPI too. Who a token belongs to is found by `gate`.
"""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from stigmer_contract.api import LEASE_HEADER, TokenScope
from stigmer_server.api.json_bodies import reading_bounded
from stigmer_server.api.services import Services, services_of
from stigmer_server.credentials import Credential
from stigmer_server.errors import Forbidden
from stigmer_server.leases import Lease
from stigmer_server.owners import Caller

CREDENTIAL_KEY: Final = "credential"
"""Of the request's state."""
SECURITY_SCHEME: Final = "token"

OPEN: Final[dict[str, Any]] = {"security": []}
"""`openapi_extra` of a route that is answered without a token: probes have none."""


def needs(*scopes: TokenScope) -> dict[str, Any]:
    """`openapi_extra` of a route for tokens of these scopes; an `admin` token may call every route."""
    allowed = [scope.value for scope in TokenScope if scope in scopes or scope is TokenScope.ADMIN]
    return {"security": [{SECURITY_SCHEME: allowed}]}


NEEDS_USER: Final = needs(TokenScope.USER)
NEEDS_RUNNER: Final = needs(TokenScope.RUNNER)
NEEDS_USER_OR_RUNNER: Final = needs(TokenScope.USER, TokenScope.RUNNER)
NEEDS_ADMIN: Final = needs()


class GuardedRoute(APIRoute):
    """A route that lets in only tokens of the scopes that its `openapi_extra` names."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.allowed_scopes = allowed_scopes(self.openapi_extra)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI's, with bodies read within bounds."""
        return reading_bounded(super().get_route_handler())

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the call, or refuse it."""
        check_scope(scope, self.allowed_scopes)
        await super().handle(scope, receive, send)


def allowed_scopes(openapi_extra: dict[str, Any] | None) -> frozenset[str] | None:
    """The scopes that a declaration names; None where it lets everybody in.

    Raises:
        KeyError: there is no declaration.
    """
    requirements: list[dict[str, list[str]]] = (openapi_extra or {})["security"]
    return frozenset(requirements[0][SECURITY_SCHEME]) if requirements else None


def check_scope(scope: Scope, allowed: frozenset[str] | None) -> None:
    """Let a request through.

    Raises:
        Forbidden: its token is of another scope.
    """
    if allowed is None:
        return
    credential: Credential = scope["state"][CREDENTIAL_KEY]
    if credential.scope not in allowed:
        raise Forbidden(
            f"token {credential.name!r} has the scope {credential.scope}, which does not allow this call",
            f"use a token of the scope {' or '.join(sorted(allowed))}",
        )


def credential_of(request: Request) -> Credential:
    """Who makes the call."""
    credential: Credential = request.scope["state"][CREDENTIAL_KEY]
    return credential


async def caller_of(request: Request) -> Caller:
    """Who makes the call, and what they see."""
    return credential_of(request).caller


def check_model(model: str | None, credential: Credential) -> None:
    """See that nobody but the administrator has a runner open files of its machine, which would tell of them.

    Raises:
        Forbidden: the model is a cassette by its path.
    """
    names_a_file = (
        model is not None and model.startswith("replay:") and not model.startswith("replay:sha256:")
    )
    if names_a_file and credential.scope is not TokenScope.ADMIN:
        raise Forbidden(
            f"token {credential.name!r} may not name a file of the runner's machine as its model",
            "upload the cassette, as `stigmer run --model replay:FILE` does",
        )


async def lease_of(request: Request) -> Lease | None:
    """The lease that bounds what the caller reaches; None where its scope is bound to none.

    An administrator's token that does a runner's work shows one too.

    Raises:
        Forbidden: a runner shows no lease that was issued to it.
    """
    credential, text = credential_of(request), request.headers.get(LEASE_HEADER)
    if credential.scope is TokenScope.USER or (credential.scope is TokenScope.ADMIN and text is None):
        return None
    services: Services = await services_of(request)
    lease = services.leases.read(text or "", credential)
    if lease.runner:
        services.presence.hear(lease.runner)
    return lease


async def leased(request: Request, execution_id: str) -> Lease | None:
    """The lease of a runner that is about to write to an execution, seen before its body is read.

    Raises:
        Forbidden: it has none for this execution.
    """
    lease = await lease_of(request)
    if lease is not None and lease.execution_id != execution_id:
        raise Forbidden(f"the call's lease is not for execution {execution_id!r}")
    return lease


def check_attempt(lease: Lease | None, attempt: int) -> None:
    """See that a runner was granted this attempt. Whether it is still the newest is seen where it is written.

    Raises:
        Forbidden: it was not.
    """
    if lease is not None and lease.attempt != attempt:
        raise Forbidden(f"the call's lease is not for attempt {attempt}")


CredentialOf = Annotated[Credential, Depends(credential_of)]
LeaseOf = Annotated[Lease | None, Depends(lease_of)]
CallerOf = Annotated[Caller, Depends(caller_of)]
