"""Webhooks: an operator's setting of where to say that something waits. Sends nothing."""

import base64
import json
import secrets as randomness
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import SecretStr
from sqlalchemy import Connection, Row, func, select

from stigmer_contract.api import Page
from stigmer_contract.webhooks import CreatedWebhook, CreateWebhook, WebhookEvent, WebhookResource
from stigmer_server.database import Database, insert_where_absent
from stigmer_server.errors import Conflict, InvalidRequest, NotFound
from stigmer_server.pages import decode_cursor, page_of
from stigmer_server.secrets_store import WEBHOOKS, Secrets
from stigmer_server.tables import answer_links, webhook_deliveries, webhooks
from stigmer_server.webhook_requests import WebhookRules

MAX_WEBHOOKS: Final = 100
SECRET_BYTES: Final = 32


class Webhooks:
    """The webhooks, by name."""

    def __init__(self, database: Database, secrets: Secrets, rules: WebhookRules) -> None:
        self._database = database
        self._secrets = secrets
        self.rules: Final = rules
        """Where may be posted to."""

    async def create(self, request: CreateWebhook, created_by: str) -> CreatedWebhook:
        """Make a webhook, with a secret of its own.

        Raises:
            InvalidRequest: nothing may be posted to its URL, or there are too many.
            Conflict: there is one of this name.
            SecretsKeyUnusable: its secret cannot be encrypted.
        """
        try:
            self.rules.check_url(request.url)
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
        secret = "whsec_" + base64.b64encode(randomness.token_bytes(SECRET_BYTES)).decode()

        def work(connection: Connection) -> WebhookResource:
            if connection.execute(select(func.count()).select_from(webhooks)).scalar_one() >= MAX_WEBHOOKS:
                raise InvalidRequest(f"there are {MAX_WEBHOOKS} webhooks already", "delete one of them")
            row = {
                "name": request.name,
                "url": request.url,
                "events": json.dumps(list(dict.fromkeys(request.events))),
                "created_at": datetime.now(UTC),
                "created_by": created_by,
            }
            if not insert_where_absent(connection, webhooks, row):
                raise Conflict(f"there is a webhook {request.name!r} already", "delete it first")
            return _resource(_find(connection, request.name), connection)

        created = await self._database.write(work)
        try:
            await self._secrets.set_signing(request.name, SecretStr(secret))
        except BaseException:
            await self.delete(request.name)
            raise
        return CreatedWebhook(**created.model_dump(), secret=secret)

    async def list(self, limit: int, cursor: str | None) -> Page[WebhookResource]:
        """All of them, by name."""
        query = select(webhooks).order_by(webhooks.c.name).limit(limit + 1)
        if cursor is not None:
            query = query.where(webhooks.c.name > decode_cursor(cursor))

        def work(connection: Connection) -> Sequence[WebhookResource]:
            return [_resource(row, connection) for row in connection.execute(query).all()]

        return page_of(await self._database.read(work), limit, lambda webhook: webhook.name)

    async def find_url(self, name: str) -> str:
        """Where messages to it go.

        Raises:
            NotFound: there is none of that name.
        """
        url: str = await self._database.read(lambda connection: _find(connection, name).url)
        return url

    async def reveal_secret(self, name: str) -> str | None:
        """What its messages are signed with; None where that cannot be had."""
        found = (await self._secrets.reveal([name], WEBHOOKS)).get(name)
        return None if found is None else found.get_secret_value()

    async def delete(self, name: str) -> None:
        """Forget a webhook, what was to be said to it, and the links that it was told.

        Raises:
            NotFound: there is none of that name.
        """

        def work(connection: Connection) -> None:
            _find(connection, name)
            connection.execute(webhook_deliveries.delete().where(webhook_deliveries.c.webhook == name))
            connection.execute(answer_links.delete().where(answer_links.c.webhook == name))
            connection.execute(webhooks.delete().where(webhooks.c.name == name))

        await self._database.write(work)
        await self._secrets.forget_signing(name)


def _find(connection: Connection, name: str) -> Row[Any]:
    row = connection.execute(select(webhooks).where(webhooks.c.name == name)).one_or_none()
    if row is None:
        raise NotFound("webhook", name)
    return row


def _resource(row: Row[Any], connection: Connection) -> WebhookResource:
    of_webhook = webhook_deliveries.c.webhook == row.name
    waiting = select(func.count()).where(of_webhook, webhook_deliveries.c.due_at.is_not(None))
    newest = (
        select(webhook_deliveries.c.problem)
        .where(of_webhook, webhook_deliveries.c.attempts > 0)
        .order_by(webhook_deliveries.c.delivery_id.desc())
        .limit(1)
    )
    return WebhookResource(
        name=row.name,
        url=row.url,
        events=[WebhookEvent(event) for event in json.loads(row.events)],
        created_at=row.created_at,
        created_by=row.created_by,
        waiting=connection.execute(waiting).scalar_one(),
        last_problem=connection.execute(newest).scalar(),
    )
