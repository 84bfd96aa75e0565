"""Legs over a log in memory: the journal, pydantic-ai's agent and tools are real; models are scripted.

A leg may be killed after any event: what was written by then is what the next leg finds.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue
from pydantic_ai import Agent
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models import Model
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.toolsets import AbstractToolset
from pydantic_core import from_json

from agent_runner.journal.bodies import Bodies
from agent_runner.journal.budget import Budget
from agent_runner.journal.compacting import CompactionRules
from agent_runner.journal.durability import JournalDurability
from agent_runner.journal.gate import StepGate
from agent_runner.journal.open_waits import OpenWaits, ServerClock
from agent_runner.journal.recorded import RecordedSteps
from agent_runner.journal.steps import JournalParts, StepJournal
from agent_runner.journal.unexecuted import UnexecutedCalls
from agent_runner.masking import Masker
from stigmer_contract.events import (
    Event,
    GrantRevoked,
    InlinePayload,
    InputResolved,
    LiveEvent,
    Payload,
    RecordedEvent,
    TerminalEvent,
)
from stigmer_contract.manifest import Limits

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


class Killed(BaseException):
    """The process of a leg dies here."""


class MemoryLog:
    """A log, and the payloads beside it."""

    def __init__(
        self,
        events: Sequence[RecordedEvent] = (),
        *,
        die_after: int | None = None,
        watch: Callable[[Event], None] = lambda _event: None,
    ) -> None:
        """`die_after` so many events of its own the leg is killed; `watch` is called with each."""
        self.events = list(events)
        self.new: list[Event] = []
        self.shown: list[LiveEvent] = []
        self.revoked: list[GrantRevoked] = []
        self._die_after = die_after
        self._watch = watch

    def append(self, *events: Event, more_follows: bool = False) -> None:
        for event in events:
            assert event.model_dump_json()
            self.events.append(RecordedEvent(sequence=len(self.events) + 1, recorded_at=MOMENT, event=event))
            self.new.append(event)
            self._watch(event)
            if len(self.new) == self._die_after:
                raise Killed

    def show(self, event: LiveEvent) -> None:
        self.shown.append(event)

    def send(self) -> None:
        pass

    async def secure(self) -> None:
        pass

    async def flush(self) -> None:
        pass

    async def news(self) -> list[RecordedEvent]:
        return []

    async def resolutions(self) -> list[InputResolved]:
        return []

    async def revocations(self) -> list[GrantRevoked]:
        return self.revoked

    async def store_payload(self, value: JsonValue) -> Payload:
        return InlinePayload(value=value)

    async def load_payload(self, payload: Payload) -> JsonValue:
        assert isinstance(payload, InlinePayload)
        return payload.value

    async def store_text(self, text: bytes) -> Payload:
        return InlinePayload(value=from_json(text))


@dataclass
class Leg:
    """One leg over a log."""

    log: MemoryLog = field(default_factory=MemoryLog)
    limits: Limits = field(default_factory=Limits)
    secrets: dict[str, str] = field(default_factory=dict[str, str])
    compaction: CompactionRules | None = None

    def __post_init__(self) -> None:
        recorded = RecordedSteps.from_events(self.log.events)
        self.gate = StepGate()
        self.journal = StepJournal(
            JournalParts(
                recorded=recorded,
                log=self.log,
                bodies=Bodies(self.log),
                gate=self.gate,
                masker=Masker(self.secrets),
                budget=Budget(self.limits, recorded.usage),
                limits=self.limits,
                waits=OpenWaits(self.gate, ServerClock(MOMENT)),
            )
        )
        self._unexecuted = UnexecutedCalls(self.journal)

    def durability(self) -> JournalDurability:
        """What makes an agent's runs steps of this leg."""
        return JournalDurability(self.journal, "test:scripted", compaction=self.compaction)

    def agent(
        self,
        model: Model,
        *toolsets: AbstractToolset[None],
        name: str = "main",
        capabilities: Sequence[AbstractCapability[Any]] = (),
        instructions: str = "Work.",
    ) -> Agent[None, str]:
        """An agent whose runs are steps of this leg."""
        return Agent(
            model,
            name=name,
            deps_type=type(None),
            instructions=instructions,
            toolsets=toolsets,
            retries={"tools": 10, "output": 3},
            capabilities=[*capabilities, self.durability()],
        )

    async def settle(self, terminal: TerminalEvent) -> None:
        """End the execution."""
        await self._unexecuted.settle(terminal)
        self.log.append(terminal)


class ScriptedModel:
    """A model that answers by turn, and counts how often it was asked for each."""

    def __init__(self, *answers: ModelResponse | str) -> None:
        self.asked: Counter[int] = Counter()
        self.messages: list[list[ModelMessage]] = []
        self.offered: list[AgentInfo] = []
        self._answers = [
            ModelResponse(parts=[TextPart(each)]) if isinstance(each, str) else each for each in answers
        ]

    @property
    def model(self) -> FunctionModel:
        """As pydantic-ai takes it."""
        return FunctionModel(self._answer, model_name="scripted")

    def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        turn = turn_of(messages)
        self.asked[turn] += 1
        self.messages.append(list(messages))
        self.offered.append(info)
        return self._answers[turn - 1]


def turn_of(messages: Sequence[ModelMessage]) -> int:
    """Which turn of the run is asked for, from 1."""
    start = max(
        place
        for place, message in enumerate(messages)
        if isinstance(message, ModelRequest)
        and any(isinstance(part, UserPromptPart) for part in message.parts)
    )
    return 1 + sum(isinstance(message, ModelResponse) for message in messages[start:])
