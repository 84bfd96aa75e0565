"""Signing in at MCP servers: bodies of `/v1/mcp-logins`, and what a runner is given of a sign-in.

A sign-in belongs to a person and to a server's address. The server keeps what it leads to; nobody is shown
tokens but the leg that calls just that server, and it gets the one that lasts for minutes.
"""

import hashlib
from datetime import datetime
from typing import Annotated, Final
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from stigmer_contract.manifest_parts import DNS_LABEL

MAX_URL_CHARACTERS: Final = 2000
MAX_SCOPES: Final = 100
MAX_CODE_CHARACTERS: Final = 8000
MAX_CHALLENGE_CHARACTERS: Final = 4000
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def resource_of(url: str) -> str:
    """The address of a server in the form by which a sign-in is known: RFC 8707 and RFC 3986, section 6.2.

    Raises:
        ValueError: it is no address of a server; says why.
    """
    if len(url) > MAX_URL_CHARACTERS or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"{url[:200]!r} is not a URL; write https://HOST/PATH")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{url[:200]!r} is not a URL: {error}") from None
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise ValueError(f"{url[:200]!r} is not a URL; write https://HOST/PATH")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL of an MCP server holds no user and password")
    name = f"[{host}]" if ":" in host else host
    at = name if port in (None, _DEFAULT_PORTS[parts.scheme]) else f"{name}:{port}"
    return urlunsplit((parts.scheme, at, parts.path or "/", parts.query, ""))


def login_id_of(url: str) -> str:
    """Names the sign-in at a server's address, among those of one person."""
    return hashlib.sha256(resource_of(url).encode("ascii")).hexdigest()[:32]


def rejected_digest(token: str) -> str:
    """Names a token that a server does not take, and tells nothing of it."""
    return hashlib.sha256(token.encode()).hexdigest()


def _check_redirect(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ValueError("must be an http address of the caller's own machine (RFC 8252, section 7.3)")
    return url


ServerUrl = Annotated[str, AfterValidator(resource_of)]
ScopeName = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,200}$")]
"""RFC 6749, section 3.3."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Resource(BaseModel):
    # A newer server may say more than this client knows.
    model_config = ConfigDict(extra="ignore", frozen=True)


class BeginMcpLogin(_Request):
    """`POST /v1/mcp-logins`: where somebody wants to sign in. Exactly one of url, agent and input_id."""

    url: ServerUrl | None = None
    agent: str | None = Field(default=None, max_length=63)
    """An applied agent; `server` is one of its servers."""
    server: str | None = Field(default=None, pattern=DNS_LABEL)
    input_id: str | None = Field(default=None, pattern=r"^[!-~]{1,64}$")
    """What an execution of the caller's waits for."""
    redirect_uri: Annotated[str, StringConstraints(max_length=300), AfterValidator(_check_redirect)]
    """Where the browser is sent in the end: a port of the caller's machine."""
    scopes: list[ScopeName] = Field(default=[], max_length=MAX_SCOPES)
    """Asked for besides what the server says that it needs."""


class McpLoginBegun(_Resource):
    """The page that a person is to open."""

    login_id: str
    url: str
    """Of the MCP server."""
    authorization_url: str
    expires_at: datetime
    """Until when the sign-in can be finished."""


class FinishMcpLogin(_Request):
    """`POST /v1/mcp-logins/{login_id}`: what the browser was sent back with."""

    state: str = Field(max_length=MAX_CODE_CHARACTERS, pattern=r"^[ -~]*$")
    """RFC 6749, appendix A.5."""
    code: str | None = Field(default=None, max_length=MAX_CODE_CHARACTERS, repr=False)
    iss: str | None = Field(default=None, max_length=MAX_URL_CHARACTERS)
    error: str | None = Field(default=None, max_length=MAX_CODE_CHARACTERS)
    """Why there is no code (RFC 6749, section 4.1.2.1)."""


class McpLogin(_Resource):
    """A sign-in at an MCP server, without its tokens."""

    login_id: str
    url: str
    issuer: str | None = None
    """The authorization server."""
    scopes: list[str] = []
    expires_at: datetime | None = None
    """Of the present token; None: it is not said."""
    is_renewed: bool = False
    """Whether the server gets further tokens by itself."""
    problem: str | None = None
    """Why the sign-in is of no use any more, in one line."""
    updated_at: datetime


class McpLogins(_Resource):
    """Answer of `GET /v1/mcp-logins`."""

    logins: list[McpLogin]


class WantMcpToken(_Request):
    """`POST /v1/executions/{id}/mcp-tokens/{server}`."""

    rejected: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """`rejected_digest` of the token that the MCP server did not take; None: there was none."""


class McpToken(_Resource):
    """What a leg calls one MCP server with."""

    access_token: str | None = Field(default=None, repr=False)
    problem: str | None = None
    """Why there is none though somebody had signed in, in one line."""
