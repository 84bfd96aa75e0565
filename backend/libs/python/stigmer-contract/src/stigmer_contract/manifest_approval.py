"""The part of the manifest that says which tool calls a person is asked about. Matches nothing itself."""

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from stigmer_contract.identifiers import OWNER_PATTERN
from stigmer_contract.manifest_parts import DNS_LABEL, Duration, ManifestPart

ApprovalPolicy: TypeAlias = Literal["ask", "allow", "deny"]
"""What becomes of a call: a person is asked, it runs, or it is refused."""
_STRICTNESS: Final[dict[ApprovalPolicy, int]] = {"allow": 0, "ask": 1, "deny": 2}
MAX_APPROVAL_RULES: Final = 200
MAX_RULE_CHARACTERS: Final = 500


def strictest(*policies: ApprovalPolicy | None) -> ApprovalPolicy:
    """The one that lets least through; of none at all `allow`."""
    strict: ApprovalPolicy = "allow"
    for policy in policies:
        if policy is not None and _STRICTNESS[policy] > _STRICTNESS[strict]:
            strict = policy
    return strict


def _check_pattern(pattern: str) -> str:
    if not pattern.strip():
        raise ValueError("must not be empty; leave it out for every call")
    if any(character in pattern for character in "\0\r\n"):
        raise ValueError("must be one line")
    return pattern


class Escalation(ManifestPart):
    """Who else is told of a question that nobody has answered. Exactly one of `webhook` and `owner`."""

    webhook: str | None = Field(default=None, pattern=DNS_LABEL, examples=["ops"])
    """Name of a webhook that the operator has set up."""
    owner: str | None = Field(default=None, pattern=OWNER_PATTERN, examples=["eve"])
    """Another person, in whose inbox it then stands too, and who may answer."""

    @model_validator(mode="after")
    def _one_way(self) -> "Escalation":
        if (self.webhook is None) == (self.owner is None):
            raise ValueError("give exactly one of webhook and owner")
        return self


class ApprovalRule(ManifestPart):
    """What becomes of certain tool calls. The first rule that matches decides."""

    tool: Annotated[str, AfterValidator(_check_pattern)] = Field(
        min_length=1, max_length=MAX_RULE_CHARACTERS, examples=["shell", "write_file", "github/*"]
    )
    """A toolset, a tool, or `server/tool` of an MCP server; `*` matches any text."""
    when: Annotated[str, AfterValidator(_check_pattern)] | None = Field(
        default=None, max_length=MAX_RULE_CHARACTERS, examples=["git push*", "secrets/**"]
    )
    """Which calls: a command (`git push*`), a path (`secrets/**`), or a text in the arguments."""
    destructive: bool | None = Field(default=None, strict=True)
    """Only calls of tools that may destroy something (`true`), or only of others; left out: of both."""
    policy: ApprovalPolicy
    """`ask` a person, `allow` it, or `deny` it."""
    expires_after: Duration | None = None
    """How long a question stays open; default: until it is answered."""
    remind_after: Duration | None = None
    """When people are reminded of a question that is open, once."""
    on_expiry: Literal["deny", "approve"] = "deny"
    """What becomes of the call when its question expires."""
    escalate: Escalation | None = None
    """Who else is told, at the time of the reminder."""

    @model_validator(mode="after")
    def _questions_only(self) -> "ApprovalRule":
        asked = ("expires_after", "remind_after", "on_expiry", "escalate")
        # Not by what is written: a stored manifest names every field.
        fields = type(self).model_fields
        given = [name for name in asked if getattr(self, name) != fields[name].default]
        if given and self.policy != "ask":
            name = fields[given[0]].alias or given[0]
            raise ValueError(f"{name} is for questions: it needs `policy: ask`")
        if self.expires_after is None:
            if self.on_expiry != "deny":
                raise ValueError("onExpiry needs expiresAfter: a question without it stays open")
        elif self.remind_after is not None and self.remind_after >= self.expires_after:
            raise ValueError("remindAfter must be shorter than expiresAfter")
        if self.escalate is not None and self.remind_after is None:
            raise ValueError("escalate needs remindAfter, which says when")
        return self
