"""What an execution's log already holds, arranged for looking steps up. Reads events; writes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from stigmer_contract.events import (
    LegStarted,
    ModelResponded,
    RecordedEvent,
    ToolFinished,
    ToolStarted,
    Usage,
)


@dataclass
class RecordedSteps:
    """The journal of one execution."""

    responses: dict[int, ModelResponded] = field(default_factory=dict[int, ModelResponded])
    """By turn, from 1."""
    tools_started: set[tuple[int, str]] = field(default_factory=set[tuple[int, str]])
    """(turn, call id)."""
    tools_finished: dict[tuple[int, str], ToolFinished] = field(
        default_factory=dict[tuple[int, str], ToolFinished]
    )
    """By (turn, call id)."""
    usage: Usage = field(default_factory=Usage)
    """Of all answers together."""
    fruitless_legs: int = 0
    """Legs that started one after the other, up to the newest, without writing a single step."""

    @classmethod
    def from_events(cls, events: Sequence[RecordedEvent]) -> "RecordedSteps":
        """Arrange a whole log, ascending by sequence."""
        recorded = cls()
        for event in events:
            recorded.add(event)
        return recorded

    def add(self, recorded: RecordedEvent) -> None:
        """Take in the next event."""
        event = recorded.event
        if isinstance(event, LegStarted):
            self.fruitless_legs += 1
            return
        self.fruitless_legs = 0
        if isinstance(event, ModelResponded):
            self.responses[event.turn] = event
            self.usage += event.usage
        elif isinstance(event, ToolStarted):
            self.tools_started.add((event.turn, event.call_id))
        elif isinstance(event, ToolFinished):
            self.tools_finished[event.turn, event.call_id] = event
