"""What an execution's log holds, arranged for looking steps up. Takes in events; writes nothing."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from agent_runner.journal.kinds import StepKey, key_of
from stigmer_contract.events import (
    AnyEvent,
    MessageReceived,
    ModelResponded,
    Payload,
    RecordedEvent,
    StepFinished,
    ToolFinished,
    ToolStarted,
    Usage,
)

StepResult = ModelResponded | ToolFinished | StepFinished


class _Repeated(NamedTuple):
    """What has the same result as another step of the same agent, kind and key."""

    agent_path: str
    kind: str
    key: str
    digest: str | None


@dataclass
class RecordedSteps:
    """The steps of one execution: those of earlier legs, and of this one as they are written."""

    results: dict[StepKey, StepResult] = field(default_factory=dict[StepKey, StepResult])
    started: dict[StepKey, ToolStarted] = field(default_factory=dict[StepKey, ToolStarted])
    """Tool calls that were written down before they ran, finished or not."""
    started_at: dict[StepKey, datetime] = field(default_factory=dict[StepKey, datetime])
    """When earlier legs wrote those down, by the server's clock."""
    messages: dict[int, MessageReceived] = field(default_factory=dict[int, MessageReceived])
    """What was said to the execution, by sequence, as far as the log was found."""
    answers: dict[str, ModelResponded] = field(default_factory=dict[str, ModelResponded])
    """The last answer, by agent path."""
    usage: Usage = field(default_factory=Usage)
    """Of all steps together."""
    sequence: int = 0
    """The log's end, as it was found."""
    _results_by_digest: dict[_Repeated, Payload] = field(default_factory=dict[_Repeated, Payload])

    @classmethod
    def from_events(cls, events: Iterable[RecordedEvent]) -> "RecordedSteps":
        """Arrange a whole log, ascending by sequence."""
        recorded = cls()
        for event in events:
            recorded.sequence = event.sequence
            recorded.add(event.event)
            if isinstance(event.event, ToolStarted) and (key := key_of(event.event)) is not None:
                recorded.started_at[key] = event.recorded_at
            elif isinstance(event.event, MessageReceived):
                recorded.messages[event.sequence] = event.event
        return recorded

    def add(self, event: AnyEvent) -> None:
        """Take in the next event."""
        key = key_of(event)
        if key is None:
            return
        if isinstance(event, ToolStarted):
            self.started[key] = event
        elif isinstance(event, ToolFinished):
            self.results[key] = event
        elif isinstance(event, ModelResponded):
            self.results[key] = self.answers[event.agent_path] = event
            self.usage += event.usage
        elif isinstance(event, StepFinished):
            self.results[key] = event
            if event.result is not None:
                self._results_by_digest[_Repeated(*key[:3], event.digest)] = event.result
            if event.usage is not None:
                self.usage += event.usage

    def result_of(self, step: StepFinished) -> Payload | None:
        """The step's result, wherever it stands."""
        return step.result or self.same_result(step.agent_path, step.kind, step.key, step.digest)

    def same_result(self, agent_path: str, kind: str, key: str, digest: str | None) -> Payload | None:
        """The result of an earlier step of that digest; None where there is none, or no digest."""
        return self._results_by_digest.get(_Repeated(agent_path, kind, key, digest)) if digest else None
