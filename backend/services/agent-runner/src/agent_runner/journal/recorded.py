"""What an execution's log holds, arranged for looking steps up. Takes in events; writes nothing."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple, cast

from agent_runner.journal.kinds import (
    INPUT,
    MESSAGE,
    MODEL,
    PUT_DOWN,
    SERVER_PREFIX,
    TOOL_SEARCH,
    TOOLS_LISTED,
    WAIT,
    StepKey,
    approval_key,
    call_key,
    key_of,
)
from stigmer_contract.api import Resumption
from stigmer_contract.events import (
    AnyEvent,
    ExecutionRetried,
    GrantRevoked,
    InlinePayload,
    InputRequested,
    InputResolved,
    MessageReceived,
    ModelFailed,
    ModelResponded,
    Payload,
    RecordedEvent,
    StepFinished,
    ToolFinished,
    ToolsChanged,
    ToolStarted,
    Usage,
)
from stigmer_contract.inputs import InputKind

MESSAGES_GIVEN: Final = "messages"
"""The counter of `history.stored` that says which messages the agent was given by then."""

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
    messages_given: int = 0
    """The newest of those that the agent was given; they are given in their order."""
    messages_taken: int = 0
    """The newest of those that it is about to be given."""
    inputs: dict[StepKey, InputRequested] = field(default_factory=dict[StepKey, InputRequested])
    """What was asked of people, resolved or not."""
    resolutions: dict[str, InputResolved] = field(default_factory=dict[str, InputResolved])
    """How that was resolved, by the input's id, as far as the log was found."""
    revoked: set[str] = field(default_factory=set[str])
    """Inputs with which a kind of call was approved that is asked about again."""
    failed_requests: dict[StepKey, ModelFailed] = field(default_factory=dict[StepKey, ModelFailed])
    """The last failure of each request, by the step that its answer is to be the result of."""
    changed_lists: dict[str, str] = field(default_factory=dict[str, str])
    """By MCP server, the digest of what it was found to offer in the place of what the agent was shown."""
    answers: dict[str, ModelResponded] = field(default_factory=dict[str, ModelResponded])
    """The last answer, by agent path."""
    usage: Usage = field(default_factory=Usage)
    """Of all steps together."""
    sequence: int = 0
    """The log's end, as it was found."""
    _results_by_digest: dict[_Repeated, Payload] = field(default_factory=dict[_Repeated, Payload])

    @classmethod
    def from_events(
        cls, events: Iterable[RecordedEvent], resumption: Resumption | None = None
    ) -> "RecordedSteps":
        """Arrange a whole log, or what comes after a stored piece of history; ascending by sequence."""
        recorded = cls()
        if resumption is not None:
            recorded.usage = resumption.usage
            given = resumption.counters.get(MESSAGES_GIVEN, 0)
            recorded.messages_given = given if isinstance(given, int) else 0
        recorded.take(events)
        return recorded

    def take(self, events: Iterable[RecordedEvent]) -> None:
        """Take in further events of the log."""
        given_before = self.messages_given
        for event in events:
            self.sequence = event.sequence
            self.add(event.event)
            if isinstance(event.event, ToolStarted) and (key := key_of(event.event)) is not None:
                self.started_at[key] = event.recorded_at
            elif isinstance(event.event, MessageReceived) and event.sequence > given_before:
                self.take_message(event)

    def take_message(self, event: RecordedEvent) -> None:
        """Take in a message, which this or another leg found in the log."""
        assert isinstance(event.event, MessageReceived)
        self.messages[event.sequence] = event.event

    def next_message(self) -> int | None:
        """The oldest message that nothing was given yet; whoever asks now has it."""
        self.messages_taken = max(self.messages_taken, self.messages_given)
        left = [sequence for sequence in self.messages if sequence > self.messages_taken]
        if not left:
            return None
        self.messages_taken = min(left)
        return self.messages_taken

    def start_over(self, events: Iterable[RecordedEvent]) -> None:
        """Forget everything, and take in a whole log instead."""
        self.results.clear()
        self.started.clear()
        self.started_at.clear()
        self.messages.clear()
        self.answers.clear()
        self.changed_lists.clear()
        self.failed_requests.clear()
        self.inputs.clear()
        self.resolutions.clear()
        self.revoked.clear()
        self._results_by_digest.clear()
        self.usage, self.messages_given, self.messages_taken = Usage(), 0, 0
        self.take(events)

    @property
    def lists_of_tools(self) -> list[StepFinished]:
        """What MCP servers offer, and which tools are found by search, to be written down again behind a
        stored piece of history: a leg that goes on from there does not see what comes before it, and is to
        know the same tools."""
        return [
            step
            for key, step in self.results.items()
            if key.kind == TOOLS_LISTED
            and (key.key.startswith(SERVER_PREFIX) or key.key == TOOL_SEARCH)
            and isinstance(step, StepFinished)
        ]

    def forget_repeated(self) -> None:
        """Write further results down whole: a leg that goes on from here does not see earlier ones."""
        self._results_by_digest.clear()

    def add(self, event: AnyEvent) -> None:
        """Take in the next event."""
        if isinstance(event, ModelFailed):
            key = StepKey(event.agent_path, MODEL, str(event.turn), event.nth)
            self.failed_requests[key] = event
        elif isinstance(event, ExecutionRetried):
            # Somebody thinks that it works now: all patience begins anew.
            self.failed_requests.clear()
        elif isinstance(event, InputRequested):
            kind_and_key = (INPUT, call_key(event.turn, event.call_id))
            if event.kind is InputKind.APPROVAL:
                kind_and_key = approval_key(event.turn, event.call_id)
            self.inputs[StepKey(event.agent_path, *kind_and_key, event.nth)] = event
        elif isinstance(event, InputResolved):
            self.resolutions[event.input_id] = event
        elif isinstance(event, ToolsChanged):
            self.changed_lists[event.server] = event.digest
        elif isinstance(event, GrantRevoked):
            self.revoked.add(event.input_id)
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
            if key.kind in (WAIT, MESSAGE):
                self.messages_given = max(self.messages_given, message_in(event) or 0)
            if event.result is not None:
                self._results_by_digest[_Repeated(*key[:3], event.digest)] = event.result
            if event.usage is not None:
                self.usage += event.usage

    def put_down(self, agent_path: str, call: str) -> StepFinished | None:
        """What the server of a call asks that has put it down, and that was not taken up again since."""
        steps = [
            step
            for key, step in self.results.items()
            if key[:3] == (agent_path, PUT_DOWN, call) and isinstance(step, StepFinished)
        ]
        # What was asked is an odd one; an even one says that the call goes on.
        return max(steps, key=lambda step: step.nth) if len(steps) % 2 else None

    def inputs_of(self, agent_path: str, call: str) -> list[tuple[StepKey, InputRequested]]:
        """What was asked of people in the middle of a call, in its order."""
        found = [(key, asked) for key, asked in self.inputs.items() if key[:3] == (agent_path, INPUT, call)]
        return sorted(found, key=lambda each: each[0].nth)

    def result_of(self, step: StepFinished) -> Payload | None:
        """The step's result, wherever it stands."""
        return step.result or self.same_result(step.agent_path, step.kind, step.key, step.digest)

    def same_result(self, agent_path: str, kind: str, key: str, digest: str | None) -> Payload | None:
        """The result of an earlier step of that digest; None where there is none, or no digest."""
        return self._results_by_digest.get(_Repeated(agent_path, kind, key, digest)) if digest else None


MESSAGE_SEQUENCE: Final = "message_sequence"
"""In the result of a wait, which message ended it; in that of a message, which it is."""

MESSAGE_SAID: Final = "message"
"""In that of a message: what was said, as a `Payload`, so that the step needs no other event."""


def message_in(step: object) -> int | None:
    """The sequence of the message that ended a wait, or that the agent was given; None: it was the time."""
    if not isinstance(step, StepFinished) or not isinstance(step.result, InlinePayload):
        return None
    value = step.result.value
    return cast("int", value[MESSAGE_SEQUENCE]) if isinstance(value, dict) else None
