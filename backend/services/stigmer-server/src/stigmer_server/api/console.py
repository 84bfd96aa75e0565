"""The console: its page, which everybody gets, and signing in, which fills it."""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request, Response

from stigmer_contract.api import ConsoleLink, ConsoleSession, SignIn, TokenScope
from stigmer_server.api.access import CREDENTIAL_KEY, OPEN, CredentialOf, GuardedRoute, needs
from stigmer_server.api.console_calls import cookie_name, is_this_machine, own_origin
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import ServicesOf
from stigmer_server.console_files import NOT_BUILT
from stigmer_server.console_sessions import SESSION_LIFETIME
from stigmer_server.errors import NotFound, SignInRefused

router = APIRouter(tags=["console"], route_class=GuardedRoute)

NEEDS_PERSON: Final = needs(TokenScope.USER, TokenScope.APPROVE)
PAGE_PATH: Final = "/console/"
SIGN_IN_PATH: Final = "/v1/console/sessions"
_PAGE_HEADERS: Final = {
    # Svelte makes its elements from templates of its own, through the one policy that is named here.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; font-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types svelte-trusted-html"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}
_FOR_EVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
_AddressPart = Annotated[str, Path(max_length=128)]


def is_page_path(path: str) -> bool:
    """Whether it is an address of the page or of a file that it needs: these are got without a token."""
    return path in ("/", "/console") or path.startswith(PAGE_PATH)


@router.get("/console/assets/{file}", include_in_schema=False, openapi_extra=OPEN)
async def get_asset(file: _AddressPart, services: ServicesOf) -> Response:
    """A file that the page needs; one of that name never changes."""
    if services.console_files.page is None:
        return _not_built()
    found = services.console_files.find_asset(file)
    if found is None:
        raise NotFound("file", file)
    return Response(found.content, headers=_FOR_EVER, media_type=found.content_type)


@router.get("/", include_in_schema=False, openapi_extra=OPEN)
@router.get("/console", include_in_schema=False, openapi_extra=OPEN)
@router.get("/console/", include_in_schema=False, openapi_extra=OPEN)
@router.get("/console/{view}", include_in_schema=False, openapi_extra=OPEN)
@router.get("/console/{view}/{item}", include_in_schema=False, openapi_extra=OPEN)
async def get_page(services: ServicesOf) -> Response:
    """The page, the same for everybody and at each address: what it shows, it asks for itself."""
    page = services.console_files.page
    if page is None:
        return _not_built()
    return Response(page, headers=_PAGE_HEADERS, media_type="text/html")


@router.post("/v1/console/links", status_code=201, responses=problem_responses(), openapi_extra=NEEDS_PERSON)
async def create_link(credential: CredentialOf, services: ServicesOf) -> ConsoleLink:
    """Make what opens the console once, within two minutes, for whom the token stands for."""
    link = await services.console_sessions.create_link(credential)
    return ConsoleLink(
        secret=link.secret,
        path=PAGE_PATH,
        expires_at=link.expires_at,
        has_page=services.console_files.page is not None,
    )


@router.post(SIGN_IN_PATH, status_code=201, responses=problem_responses(), openapi_extra=OPEN)
async def sign_in(body: SignIn, request: Request, response: Response, services: ServicesOf) -> ConsoleSession:
    """Open a session with a link, from the console's own page only; the link is worth nothing afterwards.

    Calls of the session carry the cookie and, in `Stigmer-Console`, the secret of the answer.
    """
    origin = own_origin(dict(request.scope["headers"]))
    if origin is None:
        raise SignInRefused(
            "only the console's own page may sign in: `Origin` is not the address that was called",
            "open the page at this server's own address",
        )
    is_secure = origin.startswith("https:")
    if not is_secure and not is_this_machine(origin):
        raise SignInRefused(
            f"the console is not signed in to at {origin!r}: everybody on the way could read along",
            "give the server a certificate, or reach it by a tunnel, at an address of this machine",
        )
    opened = await services.console_sessions.sign_in(body.secret)
    # The audit trail is told who it was.
    request.scope["state"][CREDENTIAL_KEY] = opened.credential
    response.set_cookie(
        cookie_name(services.installation.installation_id, is_secure=is_secure),
        opened.cookie,
        max_age=int(SESSION_LIFETIME.total_seconds()),
        path="/" if is_secure else "/v1",
        secure=is_secure,
        httponly=True,
        samesite="strict",
    )
    return ConsoleSession(secret=opened.secret, expires_at=opened.expires_at)


@router.delete(
    f"{SIGN_IN_PATH}/self", status_code=204, responses=problem_responses(), openapi_extra=NEEDS_PERSON
)
async def sign_out(credential: CredentialOf, services: ServicesOf) -> Response:
    """End the session that the call is of, and its streams."""
    await services.console_sessions.sign_out(credential)
    answer = Response(status_code=HTTPStatus.NO_CONTENT)
    for is_secure in (False, True):
        answer.delete_cookie(
            cookie_name(services.installation.installation_id, is_secure=is_secure),
            path="/" if is_secure else "/v1",
            secure=is_secure,
            httponly=True,
            samesite="strict",
        )
    return answer


def _not_built() -> Response:
    return Response(NOT_BUILT, HTTPStatus.SERVICE_UNAVAILABLE, media_type="text/plain")
