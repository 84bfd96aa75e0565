"""Says to webhooks what the outbox holds, again and again until they take it or it is given up.

A message goes out at least once: one that was sent as the server died is sent again, with the same id.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, select

from stigmer_contract.api import InputResource
from stigmer_contract.identifiers import DELIVERY_PREFIX, new_id
from stigmer_contract.webhooks import WebhookEvent, WebhookInput, WebhookMessage, WebhookTest
from stigmer_server.answer_links import AnswerLinks
from stigmer_server.database import Database
from stigmer_server.errors import NotFound, Unavailable
from stigmer_server.inputs import Inputs
from stigmer_server.tables import webhook_deliveries
from stigmer_server.webhook_requests import WebhookRefused, post_message
from stigmer_server.webhooks import Webhooks

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 1.0
CLAIMED_SECONDS: Final = 60.0
"""So long no other server sends what this one is sending."""
SENT_AT_ONCE: Final = 8
PAUSES_SECONDS: Final = (5, 30, 120, 600, 3600, 3 * 3600, 6 * 3600, 12 * 3600)
"""Between the attempts; behind the last a message is given up, about a day after the first."""
KEPT: Final = timedelta(days=7)
"""How long it can be seen what became of a message."""
CLEANING_SECONDS: Final = 3600.0
_deliveries = webhook_deliveries.c


@dataclass(frozen=True, slots=True)
class _Delivery:
    delivery_id: str
    webhook: str
    event: WebhookEvent
    input_id: str
    attempts: int
    """This one included."""


class WebhookSender:
    """The one who sends."""

    def __init__(
        self,
        database: Database,
        webhooks: Webhooks,
        inputs: Inputs,
        links: AnswerLinks,
        public_url: str | None,
    ) -> None:
        """`public_url` is where people reach this server; None: messages hold no links."""
        self._database = database
        self._webhooks = webhooks
        self._inputs = inputs
        self._links = links
        self._public_url = public_url

    async def run(self) -> None:
        """Send what is due, until cancelled."""
        cleaned_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self.send_due()
                if loop.time() - cleaned_at > CLEANING_SECONDS:
                    await self._clean()
                    cleaned_at = loop.time()
            except Unavailable as error:
                logger.warning("could not look for messages to webhooks: %s", error)
            except Exception:
                logger.exception("could not send messages to webhooks")
            await asyncio.sleep(INTERVAL_SECONDS)

    async def send_due(self) -> None:
        """Send what is due by now, some of it at once."""
        found = await self._database.write(_claim)
        await asyncio.gather(*map(self._send, found))

    async def test(self, name: str) -> WebhookTest:
        """Send a message that tells of nothing.

        Raises:
            NotFound: there is no webhook of that name.
        """
        message = WebhookMessage(type="webhook.test", timestamp=datetime.now(UTC))
        problem = await self._post(name, new_id(DELIVERY_PREFIX), message)
        return WebhookTest(delivered=problem is None, problem=problem)

    async def _send(self, delivery: _Delivery) -> None:
        is_tried_again = True
        try:
            problem = await self._attempt(delivery)
        except NotFound:
            problem, is_tried_again = "what it was about is gone", False
        except Unavailable:
            raise
        except Exception:  # one message may not be tried for ever, whatever is wrong with it
            logger.exception("could not send a message to the webhook %s", delivery.webhook)
            problem = "the server could not send it; its log says why"
        if problem is not None:
            logger.warning("webhook %s did not take a message: %s", delivery.webhook, problem)
        due_at = _next_attempt(delivery.attempts) if problem is not None and is_tried_again else None
        changes = {"due_at": due_at, "problem": problem}
        this = _deliveries.delivery_id == delivery.delivery_id
        await self._database.write(
            lambda connection: connection.execute(webhook_deliveries.update().where(this).values(changes))
        )

    async def _attempt(self, delivery: _Delivery) -> str | None:
        """Why the message was not taken; None: it was, or is of no use any more."""
        found = await self._inputs.look(delivery.input_id)
        if found.resolution is not None and delivery.event is not WebhookEvent.INPUT_RESOLVED:
            return None
        message = WebhookMessage(
            type=delivery.event, timestamp=datetime.now(UTC), data=await self._describe(found, delivery)
        )
        return await self._post(delivery.webhook, delivery.delivery_id, message)

    async def _describe(self, found: InputResource, delivery: _Delivery) -> WebhookInput:
        link = None
        if found.resolution is None and self._public_url is not None:
            secret = await self._links.create(found.input_id, delivery.webhook, found.expires_at)
            link = f"{self._public_url}/answer/{secret}"
        return WebhookInput(
            input_id=found.input_id,
            execution_id=found.execution_id,
            session_id=found.session_id,
            owner=found.owner,
            agent_name=found.agent_name,
            kind=found.kind,
            title=found.title,
            expires_at=found.expires_at,
            outcome=None if found.resolution is None else found.resolution.outcome,
            link=link,
        )

    async def _post(self, name: str, message_id: str, message: WebhookMessage) -> str | None:
        url = await self._webhooks.find_url(name)
        secret = await self._webhooks.reveal_secret(name)
        if secret is None:
            return "its secret cannot be decrypted; delete the webhook and make it anew"
        body = message.model_dump_json(exclude_none=True)
        try:
            await post_message(self._webhooks.rules, url, secret, message_id, body)
        except WebhookRefused as error:
            return str(error)
        return None

    async def _clean(self) -> None:
        await self._links.forget_expired()
        old = _deliveries.due_at.is_(None) & (_deliveries.created_at < datetime.now(UTC) - KEPT)
        await self._database.write(
            lambda connection: connection.execute(webhook_deliveries.delete().where(old))
        )


def _next_attempt(attempts: int) -> datetime | None:
    """When it is tried again after so many; None: it is given up."""
    if attempts > len(PAUSES_SECONDS):
        return None
    pause = PAUSES_SECONDS[attempts - 1] * random.uniform(0.9, 1.1)  # noqa: S311 - jitter
    return datetime.now(UTC) + timedelta(seconds=pause)


def _claim(connection: Connection) -> Sequence[_Delivery]:
    now = datetime.now(UTC)
    query = (
        select(webhook_deliveries)
        .where(_deliveries.due_at <= now)
        .order_by(_deliveries.due_at)
        .limit(SENT_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(query).all()
    if rows:
        mine = _deliveries.delivery_id.in_([row.delivery_id for row in rows])
        claimed = {"due_at": now + timedelta(seconds=CLAIMED_SECONDS), "attempts": _deliveries.attempts + 1}
        connection.execute(webhook_deliveries.update().where(mine).values(claimed))
    return [
        _Delivery(row.delivery_id, row.webhook, WebhookEvent(row.event), row.input_id, row.attempts + 1)
        for row in rows
    ]
