"""One sign-in at an MCP server, and its renewal: OAuth 2.1 as the Model Context Protocol has it (2025-11-25).

The SDK knows the protocol: discovery, registration, PKCE, resource indicators, what scopes are asked for.
Here is who carries its requests, and what is kept. Importing the SDK takes half a second: whoever needs this
module imports it then, in a thread.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.exceptions import OAuthFlowError, OAuthRegistrationError, OAuthTokenError
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthMetadata,
    OAuthToken,
    ProtectedResourceMetadata,
)
from pydantic import AnyUrl, ValidationError

from stigmer_server.mcp_addresses import AddressRefused, McpAddresses, NoAnswer
from stigmer_server.stored_logins import (
    Challenge,
    KnownClient,
    SignInFailed,
    SignInOver,
    StoredLogin,
)

CLIENT_NAME: Final = "Stigmer"
PROTOCOL: Final = "2025-11-25"
_SAID_CHARACTERS: Final = 300
_ASK: Final[dict[str, Any]] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": PROTOCOL,
        "capabilities": {},
        "clientInfo": {"name": "stigmer", "version": "1"},
    },
}
_ASK_FOR_TOOLS: Final[dict[str, Any]] = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
_SESSION: Final = "mcp-session-id"
_HEADERS: Final = {
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
    "mcp-protocol-version": PROTOCOL,
}
_WRONG: Final = (
    OAuthFlowError,
    OAuthRegistrationError,
    OAuthTokenError,
    ValidationError,
    ValueError,
    OverflowError,  # a token that lasts for longer than any clock goes
)

# It logs what it gets with every failure, the state among it; what failed is told to who asked.
logging.getLogger("mcp.client.auth").setLevel(logging.CRITICAL + 1)
logging.getLogger("httpx2").setLevel(logging.WARNING)


class _Kept:
    """What the SDK keeps, for as long as one flow lasts."""

    def __init__(self, client: OAuthClientInformationFull | None, token: OAuthToken | None) -> None:
        self.client = client
        self.token = token
        self.is_renewed = False

    async def get_tokens(self) -> OAuthToken | None:
        return self.token

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.token, self.is_renewed = tokens, True

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class _Carrier(httpx2.AsyncBaseTransport):
    """Carries the requests of a flow. Of those to the MCP server itself none is sent but what finds out what
    it wants of whom."""

    def __init__(self, addresses: McpAddresses, url: str, first: httpx2.Response | None) -> None:
        """`first` is what the server has answered already."""
        self._addresses = addresses
        self._url = url
        self._first = first
        self._asks = True
        self.last_status: int | None = None
        """Of the last answer of anybody but the MCP server."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url != self._url:
            response = await self._addresses.send(request)
            self.last_status = response.status_code
            return response
        if not self._asks:
            return httpx2.Response(HTTPStatus.OK, request=request)
        self._asks = False
        response = self._first
        if response is None:
            response = await self._addresses.send(request)
            if not _asks_who_calls(response):
                # Some let everybody begin, and say with the first question what they want.
                session = response.headers.get(_SESSION)
                more = {} if session is None else {_SESSION: session}
                with contextlib.suppress(NoAnswer):  # whoever begins first must not have to answer this
                    response = await self._addresses.send(_request(self._url, _ASK_FOR_TOOLS, more))
            if not _asks_who_calls(response):
                # And some ask for nothing until a tool is called.
                response = httpx2.Response(HTTPStatus.UNAUTHORIZED)
        return httpx2.Response(response.status_code, headers=response.headers, request=request)


def _request(url: str, message: Mapping[str, Any], headers: Mapping[str, str]) -> httpx2.Request:
    return httpx2.Request("POST", url, json=message, headers={**_HEADERS, **headers})


def _asks_who_calls(response: httpx2.Response) -> bool:
    return response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class SignIn:
    """A sign-in that a person is in the middle of."""

    def __init__(
        self,
        url: str,
        redirect_uri: str,
        addresses: McpAddresses,
        *,
        client: KnownClient | None,
        metadata_url: str | None,
        scopes: Sequence[str],
        challenge: Challenge | None,
        before: StoredLogin | None,
    ) -> None:
        """`challenge` is what the server answered a leg; `before` what the last sign-in there led to."""
        self._url = url
        self._redirect_uri = redirect_uri
        self._scopes = scopes
        self._addresses = addresses
        self._link: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._code: asyncio.Future[AuthorizationCodeResult] = asyncio.get_running_loop().create_future()
        redirects = [AnyUrl(redirect_uri)]
        known = None
        if client is not None:
            known = OAuthClientInformationFull(
                client_id=client.client_id, client_secret=client.secret, redirect_uris=redirects
            )
        is_further = challenge is not None and challenge.status == HTTPStatus.FORBIDDEN
        token = OAuthToken.model_validate(before.token) if is_further and before and before.token else None
        self._kept = _Kept(known, token)
        self._provider = OAuthClientProvider(
            url,
            OAuthClientMetadata(redirect_uris=redirects, client_name=CLIENT_NAME),
            self._kept,
            redirect_handler=self._show,
            callback_handler=self._wait,
            client_metadata_url=None if client is not None else metadata_url,
        )
        first = None
        if challenge is not None:
            header = challenge.header.encode("utf-8", "replace")  # whatever the server wrote
            first = httpx2.Response(challenge.status, headers=[(b"www-authenticate", header)])
        self._carrier = _Carrier(addresses, url, first)
        self._task = asyncio.create_task(self._run(), name="sign-in at an MCP server")

    async def link(self) -> str:
        """The page that the person is to open.

        Raises:
            SignInFailed: there is none.
        """
        await asyncio.wait({self._link, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if self._link.done():
            return self._link.result()
        self._see_end()
        raise SignInFailed(f"{self._url} asks nobody to sign in")

    async def finish(self, code: str, state: str, iss: str | None) -> StoredLogin:
        """What the sign-in led to.

        Raises:
            SignInFailed: to nothing.
        """
        if not self._code.done():
            self._code.set_result(AuthorizationCodeResult(code=code, state=state, iss=iss))
        await asyncio.wait({self._task})
        self._see_end()
        context, token = self._provider.context, self._kept.token
        assert token is not None
        assert context.client_info is not None
        return StoredLogin(
            url=self._url,
            redirect_uri=self._redirect_uri,
            client=context.client_info.model_dump(mode="json", exclude_none=True),
            metadata=_dumped(context.oauth_metadata),
            resource=_dumped(context.protected_resource_metadata),
            token=token.model_dump(mode="json", exclude_none=True),
            expires_at=_expiry(token),
        )

    async def abandon(self) -> None:
        """Forget it."""
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.exception()  # of no use to anybody any more

    def _see_end(self) -> None:
        if self._task.cancelled():
            raise SignInFailed(f"the sign-in at {self._url} was given up for one that was begun later")
        self._task.result()

    async def _run(self) -> None:
        try:
            async with httpx2.AsyncClient(
                transport=self._carrier, auth=self._provider, timeout=None
            ) as client:
                await client.post(self._url, json=_ASK, headers=_HEADERS)
        except (AddressRefused, NoAnswer) as error:
            raise SignInFailed(f"could not sign in at {self._url}: {error}") from error
        except _WRONG as error:
            context, why = self._provider.context, _in_one_line(error)
            if context.oauth_metadata is None and context.protected_resource_metadata is None:
                why = f"it names no authorization server ({why})"
            raise SignInFailed(f"could not sign in at {self._url}: {why}") from None

    async def _show(self, address: str) -> None:
        """Called with the page's address, once everything else is known."""
        context = self._provider.context
        assert context.client_info is not None
        if context.client_info.client_secret and not context.client_info.token_endpoint_auth_method:
            context.client_info.token_endpoint_auth_method = _method_of(context.oauth_metadata)
        if self._scopes:
            wanted = list(dict.fromkeys([*(context.client_metadata.scope or "").split(), *self._scopes]))
            context.client_metadata.scope = " ".join(wanted)
            address = _with_parameter(address, "scope", context.client_metadata.scope)
        self._addresses.check(httpx2.URL(address))
        self._link.set_result(address)

    async def _wait(self) -> AuthorizationCodeResult:
        return await self._code


async def renew(stored: StoredLogin, addresses: McpAddresses) -> StoredLogin:
    """The sign-in with a new token.

    Raises:
        SignInOver: there will be none any more: the person has to sign in again.
        SignInFailed: there is none now.
    """
    kept = _Kept(
        OAuthClientInformationFull.model_validate(stored.client), OAuthToken.model_validate(stored.token)
    )
    provider = OAuthClientProvider(
        stored.url,
        OAuthClientMetadata(redirect_uris=[AnyUrl(stored.redirect_uri)], client_name=CLIENT_NAME),
        kept,
    )
    context = provider.context
    context.oauth_metadata = (
        None if stored.metadata is None else OAuthMetadata.model_validate(stored.metadata)
    )
    if stored.resource is not None:
        context.protected_resource_metadata = ProtectedResourceMetadata.model_validate(stored.resource)
    context.token_expiry_time = 1.0  # long ago
    carrier = _Carrier(addresses, stored.url, httpx2.Response(HTTPStatus.OK))
    try:
        async with httpx2.AsyncClient(transport=carrier, auth=provider, timeout=None) as client:
            await client.post(stored.url, headers=_HEADERS)
    except (AddressRefused, NoAnswer) as error:
        raise SignInFailed(str(error)) from error
    except _WRONG as error:
        raise SignInFailed(_in_one_line(error)) from None
    if not kept.is_renewed:
        status = carrier.last_status or 0
        if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in (
            HTTPStatus.REQUEST_TIMEOUT,
            HTTPStatus.TOO_MANY_REQUESTS,
        ):
            raise SignInOver("it has expired, or was taken back")
        raise SignInFailed(f"the authorization server answered {status}")
    assert kept.token is not None
    token = kept.token.model_dump(mode="json", exclude_none=True)
    return stored.model_copy(
        update={"token": token, "expires_at": _expiry(kept.token), "problem": None, "renewing_until": None}
    )


async def revoke(stored: StoredLogin, addresses: McpAddresses) -> None:
    """Tell the authorization server that the sign-in is over (RFC 7009), where it takes that."""
    endpoint = (stored.metadata or {}).get("revocation_endpoint")
    if not isinstance(endpoint, str) or stored.token is None:
        return
    client = OAuthClientInformationFull.model_validate(stored.client)
    provider = OAuthClientProvider(
        stored.url, OAuthClientMetadata(redirect_uris=[AnyUrl(stored.redirect_uri)]), _Kept(client, None)
    )
    provider.context.client_info = client
    kind = "refresh_token" if stored.token.get("refresh_token") else "access_token"
    form = {"token": str(stored.token[kind]), "token_type_hint": kind, "client_id": client.client_id}
    with contextlib.suppress(AddressRefused, NoAnswer, *_WRONG):
        data, headers = provider.context.prepare_token_auth(form, {})
        await addresses.send(httpx2.Request("POST", endpoint, data=data, headers=headers))


def _expiry(token: OAuthToken) -> float | None:
    return None if token.expires_in is None else time.time() + token.expires_in


def _dumped(model: OAuthMetadata | ProtectedResourceMetadata | None) -> dict[str, Any] | None:
    return None if model is None else model.model_dump(mode="json", exclude_none=True)


def _method_of(metadata: OAuthMetadata | None) -> str:
    """How a client that was registered by hand shows its secret; RFC 8414, section 2, has the default."""
    methods = None if metadata is None else metadata.token_endpoint_auth_methods_supported
    if methods is None or "client_secret_basic" in methods:
        return "client_secret_basic"
    return "client_secret_post"


def _with_parameter(address: str, name: str, value: str) -> str:
    parts = urlsplit(address)
    query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
    return urlunsplit(parts._replace(query=urlencode(query | {name: value})))


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return "".join(each for each in text if each.isprintable())[:_SAID_CHARACTERS]
