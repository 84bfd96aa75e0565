"""Webhooks: where the server says that something waits for a person. Signed as Standard Webhooks are."""

from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

WEBHOOK_NAME_PATTERN: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
MAX_URL_CHARACTERS: Final = 2000


class WebhookEvent(StrEnum):
    """What a webhook is told of."""

    INPUT_REQUESTED = "input.requested"
    INPUT_REMINDED = "input.reminded"
    """It waits still; told to whom a rule of approval names."""
    INPUT_RESOLVED = "input.resolved"


class CreateWebhook(BaseModel):
    """`POST /v1/webhooks`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=WEBHOOK_NAME_PATTERN, examples=["ops"])
    """DNS label; rules of approval name it so."""
    url: str = Field(min_length=1, max_length=MAX_URL_CHARACTERS)
    """Where it is posted to; https, unless the server allows its host."""
    events: list[WebhookEvent] = [WebhookEvent.INPUT_REQUESTED]
    """What it is told of; empty: only what a rule of approval escalates to it."""


class WebhookResource(BaseModel):
    """A webhook, without its secret."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    url: str
    events: list[WebhookEvent]
    created_at: datetime
    created_by: str
    """Name of the token that made it."""
    waiting: int = 0
    """Messages that are still to be delivered."""
    last_problem: str | None = None
    """Why the newest message that was tried was not taken; None: it was, or there is none."""


class CreatedWebhook(WebhookResource):
    """A new webhook with its secret, which is shown this once."""

    secret: str
    """`whsec_…`: with it whoever gets a message checks its signature."""


class WebhookTest(BaseModel):
    """Answer of `POST /v1/webhooks/{name}/test`: what became of one message."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    delivered: bool
    problem: str | None = None
    """Why it was not taken."""


class WebhookInput(BaseModel):
    """What a message says of an input: as little as lets a person know whether to look."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    input_id: str
    execution_id: str
    session_id: str
    owner: str
    agent_name: str
    kind: str
    title: str
    expires_at: datetime | None = None
    outcome: str | None = None
    """How it was resolved; None while it waits."""
    link: str | None = None
    """Opens a page with all of it, and a form that answers it, without a token: for one input, once."""


class WebhookMessage(BaseModel):
    """The body of a message."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str
    """A `WebhookEvent`, or `webhook.test`."""
    timestamp: datetime
    data: WebhookInput | None = None
