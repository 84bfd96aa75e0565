"""Routes of `/v1/webhooks`: where the server says that something waits for a person."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from stigmer_contract.api import Page
from stigmer_contract.webhooks import (
    WEBHOOK_NAME_PATTERN,
    CreatedWebhook,
    CreateWebhook,
    WebhookResource,
    WebhookTest,
)
from stigmer_server.api.access import NEEDS_ADMIN, CredentialOf, GuardedRoute
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import Cursor, Limit, ServicesOf
from stigmer_server.errors import Conflict, NotFound
from stigmer_server.pages import DEFAULT_PAGE_SIZE

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=GuardedRoute)

Name = Annotated[str, Path(pattern=WEBHOOK_NAME_PATTERN)]


@router.post("", status_code=201, responses=problem_responses(Conflict), openapi_extra=NEEDS_ADMIN)
async def create_webhook(
    body: CreateWebhook, response: Response, credential: CredentialOf, services: ServicesOf
) -> CreatedWebhook:
    """Make a webhook. The secret that its messages are signed with is in this answer only."""
    created = await services.webhooks.create(body, credential.name)
    response.headers["Location"] = f"/v1/webhooks/{created.name}"
    return created


@router.get("", responses=problem_responses(), openapi_extra=NEEDS_ADMIN)
async def list_webhooks(
    services: ServicesOf, limit: Limit = DEFAULT_PAGE_SIZE, cursor: Cursor = None
) -> Page[WebhookResource]:
    """The webhooks by name, without their secrets."""
    return await services.webhooks.list(limit, cursor)


@router.post("/{name}/test", responses=problem_responses(NotFound), openapi_extra=NEEDS_ADMIN)
async def test_webhook(name: Name, services: ServicesOf) -> WebhookTest:
    """Send a message that tells of nothing, once, and say what became of it."""
    return await services.webhook_sender.test(name)


@router.delete("/{name}", status_code=204, responses=problem_responses(NotFound), openapi_extra=NEEDS_ADMIN)
async def delete_webhook(name: Name, services: ServicesOf) -> None:
    """Forget a webhook, what was to be said to it, and the links that it was told."""
    await services.webhooks.delete(name)
