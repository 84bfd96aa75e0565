"""What is kept of a sign-in at an MCP server, and what can become of one. Knows no SDK and no database."""

from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class SignInFailed(Exception):
    """There is no sign-in, or no new token now; says why."""


class SignInOver(Exception):
    """There will be no further token: the person has to sign in again; says why."""


class KnownClient(BaseModel):
    """A client that was registered by hand."""

    model_config = ConfigDict(frozen=True)

    client_id: str
    secret: str | None = Field(default=None, repr=False)


class Challenge(BaseModel):
    """How an MCP server asked a leg for authorisation."""

    model_config = ConfigDict(frozen=True)

    status: int
    header: str
    """`WWW-Authenticate` (RFC 9110, section 11.6.1)."""


class StoredLogin(BaseModel):
    """Stands encrypted among the secrets, as JSON."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    url: str
    redirect_uri: str
    client: dict[str, Any] = Field(repr=False)
    """As it was registered (RFC 7591)."""
    metadata: dict[str, Any] | None = None
    """Of the authorization server (RFC 8414)."""
    resource: dict[str, Any] | None = None
    """Of the MCP server (RFC 9728)."""
    token: dict[str, Any] | None = Field(default=None, repr=False)
    """The answer of the token endpoint (RFC 6749, section 5.1); None: the sign-in is over."""
    expires_at: float | None = None
    """Of the access token, in seconds since 1970; None: it is not said."""
    problem: str | None = None
    """Why it is over."""
    renewing_until: AwareDatetime | None = None
    """Somebody asks for a new token, and nobody else does meanwhile."""
    updated_at: AwareDatetime | None = None

    @property
    def access_token(self) -> str | None:
        """What the MCP server is called with."""
        return None if self.token is None else str(self.token["access_token"])

    @property
    def can_be_renewed(self) -> bool:
        """Whether there may be further tokens without the person."""
        return self.token is not None and bool(self.token.get("refresh_token"))
