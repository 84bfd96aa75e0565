"""The manifest's `mcpServers`: servers of further tools, by the Model Context Protocol."""

import re
from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from stigmer_contract.isolation_words import Network
from stigmer_contract.manifest_headers import HeaderName, HeaderValue
from stigmer_contract.manifest_packages import FetchedPackage, Package
from stigmer_contract.manifest_parts import (
    DNS_LABEL,
    Duration,
    Environment,
    ManifestPart,
    SecretReference,
    ToolsetName,
    check_unique,
    secrets_among,
    unique,
)
from stigmer_contract.mcp_logins import MAX_SCOPES, ScopeName

MAX_SERVERS: Final = 32
MAX_TOOL_NAME_CHARACTERS: Final = 256
MAX_ASK_WAIT: Final = timedelta(hours=1)
McpProtocol = Literal["2025-11-25", "2026-07-28"]
"""Versions of the protocol: with an agreement at the start, and without one."""


def unique_servers(servers: "list[McpServer]") -> "list[McpServer]":
    """The servers, of which no two have the same name."""
    if len(servers) > MAX_SERVERS:
        raise ValueError(f"names {len(servers)} servers; an agent has at most {MAX_SERVERS}")
    check_unique([server.name for server in servers])
    return servers


def _check_argument(text: str) -> str:
    if "\0" in text:
        raise ValueError("an argument cannot hold a null byte")
    return text


def _check_client_id(client_id: str) -> str:
    if not re.fullmatch(r"[\x20-\x7e]{1,500}", client_id):  # RFC 6749, appendix A.1
        raise ValueError("a client's id has 1 to 500 printable ASCII characters")
    return client_id


_Tools = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=MAX_TOOL_NAME_CHARACTERS)]], AfterValidator(unique)
]


class McpAuthorisation(ManifestPart):
    """How somebody signs in at a server that asks for it (OAuth); most servers need none of this."""

    client_id: Annotated[str, AfterValidator(_check_client_id)] | None = None
    """Of a client that was registered with the authorization server by hand; left out: Stigmer registers
    itself."""
    client_secret: SecretReference | None = None
    """The secret of that client, as `{secret: NAME}`; no leg is given it."""
    scopes: list[ScopeName] = Field(default_factory=list[str], max_length=MAX_SCOPES)
    """Asked for besides what the server says that it needs."""

    @field_validator("client_secret")
    @classmethod
    def _secret_has_client(
        cls, secret: SecretReference | None, info: ValidationInfo
    ) -> SecretReference | None:
        if secret is not None and info.data.get("client_id", "?") is None:
            raise ValueError("is for `clientId`")
        return secret


class McpServer(ManifestPart):
    """A server of tools that speaks the Model Context Protocol. One of `command`, `package`, `url`."""

    name: ToolsetName = Field(pattern=DNS_LABEL)
    """Name of the server, unique in the agent; the model knows its tools as `name__tool`."""
    command: list[Annotated[str, AfterValidator(_check_argument)]] | None = Field(default=None, min_length=1)
    """Program and arguments of a server that speaks over its standard input and output. It is started in the
    session's workspace when one of its tools is called first, held in like commands are."""
    url: str | None = Field(default=None, pattern=r"^https?://")
    """Address of a server that speaks over streamable HTTP."""
    package: Package | None = Field(
        default=None, examples=["npm:@modelcontextprotocol/server-everything@2025.9.12"]
    )
    """A published server, `npm:NAME@VERSION`, in the place of `command`: fetched with all that it needs when
    the agent is applied, and started from there, where no agent can change it and without a network."""
    args: list[Annotated[str, AfterValidator(_check_argument)]] = Field(default_factory=list[str])
    """Arguments for `package`."""
    fetched: FetchedPackage | None = None
    """What was fetched of `package`; `stigmer` writes this."""
    env: Environment = Field(default_factory=dict[str, str | SecretReference])
    """Environment of `command` or `package`: texts, and secrets as `{secret: NAME}`; no other server and no
    command sees them."""
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict[str, str | SecretReference])
    """HTTP headers for `url`: texts, and secrets as `{secret: NAME}`."""
    network: Network = "none"
    """What `command` or `package` may reach: nothing, HTTPS (TCP port 443 and name resolution over TCP), or
    everything."""
    tools: _Tools | None = Field(default=None, min_length=1)
    """The server's tools that the agent gets, by the server's own names; left out: all of them."""
    exclude: _Tools = Field(default_factory=list[str])
    """Tools that the agent does not get."""
    read_only: _Tools = Field(default_factory=list[str])
    """Tools that change nothing: their calls may run side by side, and again after a crash."""
    idempotent: _Tools = Field(default_factory=list[str])
    """Tools whose calls may be made once more where nobody knows what became of one."""
    trust_annotations: bool = Field(default=False, strict=True)
    """Whether the server's own word counts for which tools change nothing or may be repeated."""
    pin: bool | None = Field(default=None, strict=True)
    """Whether tools that the server describes otherwise than when they were pinned are refused until somebody
    accepts them with `stigmer apply`; left out: where the server is given secrets."""
    protocol: McpProtocol | None = None
    """The version of the protocol to speak; left out: `2025-11-25`, or one before it, where the server agrees
    to that, else `2026-07-28`."""
    auth: McpAuthorisation | None = None
    """How somebody signs in at `url` with `stigmer mcp login`, where the server alone does not say enough."""
    sampling: Literal["deny", "allow"] = "deny"
    """Whether the server may ask the agent's model; what that costs counts in `limits`."""
    ask_wait: Duration = timedelta(minutes=5)
    """How long a call is held open while a person has not answered what the server asks, at most 1h. Then it
    is cancelled; the question stays open. Servers of the newer protocol (2026-07-28) hold nothing open."""

    @property
    def secret_names(self) -> set[str]:
        """The secrets that the server is given."""
        return secrets_among((*self.env.values(), *self.headers.values()))

    @property
    def is_pinned(self) -> bool:
        """Whether tools that changed are refused until they are accepted."""
        return bool(self.secret_names) or self.auth is not None if self.pin is None else self.pin

    @property
    def takes_logins(self) -> bool:
        """Whether it is called with what a person's sign-in led to, where there is one."""
        return self.url is not None and all(name.lower() != "authorization" for name in self.headers)

    def offers(self, tool: str) -> bool:
        """Whether the agent gets a tool of the server, by the server's own name for it."""
        return (self.tools is None or tool in self.tools) and tool not in self.exclude

    @field_validator("env")
    @classmethod
    def _env_has_command(cls, env: Environment, info: ValidationInfo) -> Environment:
        if env and info.data.get("url") is not None:
            raise ValueError("is for `command`; a server at a url takes `headers`")
        return env

    @field_validator("headers")
    @classmethod
    def _headers_have_url(
        cls, headers: dict[str, str | SecretReference], info: ValidationInfo
    ) -> dict[str, str | SecretReference]:
        if headers and info.data.get("url", "?") is None:
            raise ValueError("is for `url`; a server that is started takes `env`")
        return headers

    @field_validator("auth")
    @classmethod
    def _auth_has_url(cls, auth: McpAuthorisation | None, info: ValidationInfo) -> McpAuthorisation | None:
        if auth is not None and info.data.get("url", "?") is None:
            raise ValueError("is for `url`; a server that is started takes `env`")
        if auth is not None and any(name.lower() == "authorization" for name in info.data.get("headers", {})):
            raise ValueError("give one of auth and the header Authorization")
        return auth

    @field_validator("network")
    @classmethod
    def _network_has_command(cls, network: Network, info: ValidationInfo) -> Network:
        if network != "none" and info.data.get("url") is not None:
            raise ValueError("is for `command`; a server at a url is reached by the runner itself")
        return network

    @field_validator("ask_wait")
    @classmethod
    def _waits_bounded(cls, ask_wait: timedelta) -> timedelta:
        if ask_wait > MAX_ASK_WAIT:
            raise ValueError("must be at most 1h")
        return ask_wait

    @field_validator("exclude")
    @classmethod
    def _excludes_others(cls, exclude: list[str], info: ValidationInfo) -> list[str]:
        if exclude and info.data.get("tools") is not None:
            raise ValueError("give one of tools and exclude")
        return exclude

    @model_validator(mode="after")
    def _one_transport(self) -> "McpServer":
        if [self.command, self.package, self.url].count(None) != 2:
            raise ValueError("give exactly one of command, package and url")
        if self.package is None and (self.args or self.fetched is not None):
            raise ValueError("args and fetched are for `package`")
        return self
