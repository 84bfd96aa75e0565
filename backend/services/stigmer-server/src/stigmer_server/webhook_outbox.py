"""Which webhooks are to be told what: rows of the transaction that writes the log. Sends nothing."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, select

from stigmer_contract.identifiers import DELIVERY_PREFIX, new_id
from stigmer_contract.webhooks import WebhookEvent
from stigmer_server.tables import webhook_deliveries, webhooks


def tell_subscribers(connection: Connection, event: WebhookEvent, input_ids: Sequence[str]) -> None:
    """Let every webhook be told that wants to know of such events."""
    rows = connection.execute(select(webhooks.c.name, webhooks.c.events)).all()
    names = [row.name for row in rows if event in json.loads(row.events)]
    _insert(connection, [(name, event, input_id) for name in names for input_id in input_ids])


def tell_webhook(connection: Connection, name: str, event: WebhookEvent, input_id: str) -> bool:
    """Let one webhook be told, whatever it wants to know of; False where there is none of that name."""
    found = connection.execute(select(webhooks.c.name).where(webhooks.c.name == name)).first()
    if found is not None:
        _insert(connection, [(name, event, input_id)])
    return found is not None


def _insert(connection: Connection, messages: Sequence[tuple[str, WebhookEvent, str]]) -> None:
    now = datetime.now(UTC)
    rows = [
        {
            "delivery_id": new_id(DELIVERY_PREFIX),
            "webhook": name,
            "event": event.value,
            "input_id": input_id,
            "created_at": now,
            "due_at": now,
            "attempts": 0,
        }
        for name, event, input_id in messages
    ]
    if rows:
        connection.execute(webhook_deliveries.insert(), rows)
