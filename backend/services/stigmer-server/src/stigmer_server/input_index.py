"""The rows of `inputs`, kept in step with the log in the transaction that writes it."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam

from stigmer_contract.events import Event, InputRequested, InputResolved
from stigmer_contract.webhooks import WebhookEvent
from stigmer_server.tables import inputs
from stigmer_server.webhook_outbox import tell_subscribers

_insert = inputs.insert()
_resolve = (
    inputs.update()
    .where(inputs.c.input_id == bindparam("key"))
    .values(resolved_sequence=bindparam("new_resolved_sequence"))
)


@dataclass(slots=True)
class InputRows:
    """What the events of one transaction change."""

    asked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    resolved: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def note(self, execution_id: str, sequence: int, event: Event) -> None:
        """Take in an event that is being written."""
        if isinstance(event, InputRequested):
            self.asked.append(
                {
                    "input_id": event.input_id,
                    "execution_id": execution_id,
                    "sequence": sequence,
                    "expires_at": event.expires_at,
                    "remind_at": event.remind_at,
                }
            )
        elif isinstance(event, InputResolved):
            self.resolved.append({"key": event.input_id, "new_resolved_sequence": sequence})

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
