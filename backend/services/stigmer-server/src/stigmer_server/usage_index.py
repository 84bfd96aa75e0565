"""The rows of `usage_quarters`, kept in step with the log in the transaction that writes it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from stigmer_contract.events import Event, ModelInterrupted, ModelResponded, StepFinished, Usage
from stigmer_server.database import insert_or_add
from stigmer_server.execution_state import ExecutionState, nanos_of
from stigmer_server.tables import usage_quarters

QUARTER_SECONDS: Final = 15 * 60
"""Every time zone's midnight is at one of these."""
MAX_MODEL_CHARACTERS: Final = 255
COUNTED: Final = ("requests", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_SUMMED: Final = (*COUNTED, "cost_nanos")


def quarter_of(time: datetime) -> int:
    """The quarter of an hour that a time is in."""
    return int(time.timestamp()) // QUARTER_SECONDS


@dataclass(slots=True)
class UsageRows:
    """What the events of one transaction add."""

    rows: dict[tuple[str, int, str], dict[str, Any]] = field(
        default_factory=dict[tuple[str, int, str], dict[str, Any]]
    )

    def note(self, state: ExecutionState, event: Event, now: datetime) -> None:
        """Take in an event that is being written."""
        if isinstance(event, ModelResponded | ModelInterrupted):
            self._add(state, event.model, event.usage, now)
        elif isinstance(event, StepFinished) and event.usage is not None:
            self._add(state, state.model or "", event.usage, now)

    def write(self, connection: Connection) -> None:
        """Write down what has been added."""
        insert_or_add(connection, usage_quarters, [self.rows[key] for key in sorted(self.rows)], _SUMMED)

    def _add(self, state: ExecutionState, model: str, usage: Usage, now: datetime) -> None:
        key = (state.execution_id, quarter_of(now), model[:MAX_MODEL_CHARACTERS])
        new: dict[str, Any] = {name: getattr(usage, name) for name in COUNTED}
        new["cost_nanos"] = nanos_of(usage.cost_usd)
        row = self.rows.get(key)
        if row is None:
            self.rows[key] = {
                "execution_id": state.execution_id,
                "quarter": key[1],
                "model": key[2],
                "session_id": state.session_id,
                "agent_name": state.agent_name,
                "owner": state.owner,
                **new,
            }
            return
        for name, value in new.items():
            row[name] = value if row[name] is None else row[name] + (value or 0)
