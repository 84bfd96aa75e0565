"""The rows of `inputs`, kept in step with the log in the transaction that writes it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam

from stigmer_contract.events import Event, InputReminded, InputRequested, InputResolved
from stigmer_contract.webhooks import WebhookEvent
from stigmer_server.tables import inputs
from stigmer_server.webhook_outbox import tell_subscribers, tell_webhook

_insert = inputs.insert()
_resolve = (
    inputs.update()
    .where(inputs.c.input_id == bindparam("key"))
    .values(resolved_sequence=bindparam("new_resolved_sequence"))
)

_remind = (
    inputs.update()
    .where(inputs.c.input_id == bindparam("key"))
    .values(reminded_at=bindparam("new_reminded_at"), escalated_to=bindparam("new_escalated_to"))
)


@dataclass(slots=True)
class InputRows:
    """What the events of one transaction change."""

    asked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    resolved: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    reminded: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    escalated: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Webhook and input."""

    def note(self, execution_id: str, sequence: int, event: Event, recorded_at: datetime) -> None:
        """Take in an event that is being written."""
        if isinstance(event, InputRequested):
            self.asked.append(
                {
                    "input_id": event.input_id,
                    "execution_id": execution_id,
                    "sequence": sequence,
                    "expires_at": event.expires_at,
                    "remind_at": event.remind_at,
                    "kind": event.kind.value,
                }
            )
        elif isinstance(event, InputResolved):
            self.resolved.append({"key": event.input_id, "new_resolved_sequence": sequence})
        elif isinstance(event, InputReminded):
            self.reminded.append(
                {
                    "key": event.input_id,
                    "new_reminded_at": recorded_at,
                    "new_escalated_to": event.escalated_to,
                }
            )
            if event.webhook is not None:
                self.escalated.append((event.webhook, event.input_id))

    def write(self, connection: Connection) -> None:
        """Write down what has changed."""
        if self.asked:
            connection.execute(_insert, self.asked)
            asked = [row["input_id"] for row in self.asked]
            tell_subscribers(connection, WebhookEvent.INPUT_REQUESTED, asked)
        if self.resolved:
            connection.execute(_resolve, self.resolved)
            resolved = [row["key"] for row in self.resolved]
            tell_subscribers(connection, WebhookEvent.INPUT_RESOLVED, resolved)
        if self.reminded:
            connection.execute(_remind, self.reminded)
            reminded = [row["key"] for row in self.reminded]
            tell_subscribers(connection, WebhookEvent.INPUT_REMINDED, reminded)
        for webhook, input_id in self.escalated:
            tell_webhook(connection, webhook, WebhookEvent.INPUT_REMINDED, input_id)
