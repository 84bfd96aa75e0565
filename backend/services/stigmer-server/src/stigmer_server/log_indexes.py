"""What is kept beside the log, to find things in it by: written in the transaction that writes the log."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from stigmer_contract.events import Event
from stigmer_server.execution_state import ExecutionState
from stigmer_server.input_index import InputRows
from stigmer_server.search_index import SearchRows
from stigmer_server.usage_index import UsageRows


@dataclass(slots=True)
class LogIndexes:
    """The rows of one transaction, of all indexes."""

    inputs: InputRows = field(default_factory=InputRows)
    usage: UsageRows = field(default_factory=UsageRows)
    search: SearchRows = field(default_factory=SearchRows)

    def note(self, state: ExecutionState, sequence: int, event: Event, now: datetime) -> None:
        """Take in an event that is being written."""
        self.inputs.note(state.execution_id, sequence, event, now)
        self.usage.note(state, event, now)
        self.search.note(state, sequence, event)

    def write(self, connection: Connection) -> None:
        """Write down what has changed."""
        self.inputs.write(connection)
        self.usage.write(connection)
        self.search.write(connection)
