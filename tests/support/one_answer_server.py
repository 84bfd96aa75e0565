"""A server that answers each request with bytes that a test lays out, and an execution that asks it.

The execution is an agent on a journal of its own in memory: what would be its log is a list. Waits between
requests take no time.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import JsonValue
from pydantic_ai import Agent, FunctionToolset, UsageLimits
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.messages import ModelMessage

from agent_runner.errors import ExecutionFailure
from agent_runner.journal.bodies import Bodies
from agent_runner.journal.budget import Budget
from agent_runner.journal.durability import JournalDurability
from agent_runner.journal.gate import StepGate
from agent_runner.journal.open_waits import OpenWaits, ServerClock
from agent_runner.journal.recorded import RecordedSteps
from agent_runner.journal.steps import JournalParts, StepJournal
from agent_runner.masking import Masker
from agent_runner.models import CutAnswers, ModelPool, ShownAnswers
from agent_runner.settings import load_settings
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    Event,
    GrantRevoked,
    InlinePayload,
    InputResolved,
    LiveEvent,
    ModelDelta,
    Payload,
    RecordedEvent,
    Usage,
)
from stigmer_contract.manifest import Limits

WIRES = {
    "chat": ("openai-compatible:odd", "STIGMER_LLM_BASE_URL", "STIGMER_LLM_API_KEY"),
    "responses": ("openai:gpt-5", "OPENAI_BASE_URL", "OPENAI_API_KEY"),
    "messages": ("anthropic:claude-sonnet-5", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
}
"""By wire format: the model that speaks it, and the variables of its address and key."""


@dataclass(frozen=True)
class Reply:
    """What one request is answered with."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    cut: bool = False
    """Whether the connection breaks where the body should go on."""


Answering = Callable[[int, dict[str, Any]], Reply]
"""The reply to the n-th request (from 0) with this body."""


@dataclass
class OneAnswerServer:
    """Its address, and what it was asked."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    heads: list[str] = field(default_factory=list[str])
    """Request line and headers of each request, as they came."""


@asynccontextmanager
async def answering(answer: Answering) -> AsyncGenerator[OneAnswerServer]:
    """Serve in the test's own loop."""
    server = OneAnswerServer()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = int(head.lower().partition("content-length:")[2].partition("\r\n")[0])
            body = json.loads(await reader.readexactly(length))
            reply = answer(len(server.bodies), body)
            server.bodies.append(body)
            server.heads.append(head)
            headers = {"Content-Type": "text/event-stream", **reply.headers, "Connection": "close"}
            if reply.cut:
                headers["Content-Length"] = str(len(reply.body) + 1)
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"HTTP/1.1 {reply.status} Odd\r\n{lines}\r\n".encode("latin-1") + reply.body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away
        finally:
            writer.close()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, limit=64 * 1024)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        listener.close()


PATIENCE: Final = timedelta(minutes=1)
"""How long a model may be away, unless a test says otherwise."""


class _QuickClock(ServerClock):
    """Waits take no time, and yet it is later then."""

    def __init__(self) -> None:
        super().__init__(datetime.now(UTC))
        self._slept = timedelta()

    def now(self) -> datetime:
        return super().now() + self._slept

    async def sleep_until(self, moment: datetime) -> None:
        self._slept += max(timedelta(), moment - self.now())


class _ListLog:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.shown: list[LiveEvent] = []

    def append(self, *events: Event, more_follows: bool = False) -> None:
        for event in events:
            event.model_dump_json()  # what cannot be written is a defect
        self.events += events

    def show(self, event: LiveEvent) -> None:
        event.model_dump_json()
        self.shown.append(event)

    def send(self) -> None:
        pass

    async def secure(self) -> None:
        pass

    async def flush(self) -> None:
        pass

    async def resolutions(self) -> list[InputResolved]:
        return []

    async def revocations(self) -> list[GrantRevoked]:
        return []

    async def news(self) -> list[RecordedEvent]:
        return []


class _Inline:
    async def store_payload(self, value: JsonValue) -> Payload:
        return InlinePayload(value=value)

    async def store_text(self, text: bytes) -> Payload:
        return InlinePayload(value=json.loads(text))

    async def load_payload(self, payload: Payload) -> JsonValue:
        assert isinstance(payload, InlinePayload)
        return payload.value


@dataclass
class Ending:
    """How an execution went."""

    events: list[Event]
    noted: list[str]
    """What the agent's tool was called with."""
    messages: list[ModelMessage]
    output: str | None = None
    code: ErrorCode | None = None
    message: str = ""
    hint: str | None = None
    shown: str = ""
    """Text and thinking as a watcher saw them."""


async def execute(
    wire: str,
    server: OneAnswerServer,
    *,
    limits: Limits | None = None,
    history: Sequence[ModelMessage] = (),
) -> Ending:
    """Run an agent with one tool, `note`, on a model of this wire format."""
    reference, url_variable, key_variable = WIRES[wire]
    url = server.url.removesuffix("/v1") if wire == "messages" else server.url
    return await execute_with({url_variable: url, key_variable: "k"}, reference, limits, history)


async def execute_with(
    variables: Mapping[str, str],
    reference: str,
    limits: Limits | None = None,
    history: Sequence[ModelMessage] = (),
) -> Ending:
    """Run that agent on a model of a runner with these variables."""
    settings = load_settings({"STIGMER_TOKEN": "t", **variables})
    limits = limits or Limits(turns=12)
    if limits.model_unavailable is None:
        limits = limits.model_copy(update={"model_unavailable": PATIENCE})
    log, noted, gate = _ListLog(), list[str](), StepGate()
    journal = StepJournal(
        JournalParts(
            recorded=RecordedSteps(),
            log=log,
            bodies=Bodies(_Inline()),
            gate=gate,
            masker=Masker({}),
            budget=Budget(limits, Usage()),
            limits=limits,
            waits=OpenWaits(gate, _QuickClock()),
        )
    )

    def note(text: str = "") -> str:
        """Note something."""
        noted.append(text)
        return "noted"

    pool = ModelPool(settings)
    ending = Ending(log.events, noted, [])

    async def no_blob(sha256: str) -> bytes:
        raise AssertionError(sha256)

    try:
        built = await pool.build(reference, no_blob)
        agent = Agent(
            ShownAnswers(built.model, journal),
            name="odd",
            deps_type=type(None),
            output_type=str,
            retries={"tools": 3, "output": 2},
            toolsets=[FunctionToolset([note], id="notes")],
            capabilities=[JournalDurability(journal, built.reference)],
        )
        agent.output_validator(CutAnswers().check)
        try:
            result = await agent.run(
                "go", message_history=[*history], usage_limits=UsageLimits(request_limit=None)
            )
            ending.output, ending.messages = result.output, result.all_messages()
        except ExecutionFailure as failure:
            ending.code, ending.message, ending.hint = failure.code, failure.message, failure.hint
        except AgentRunError as error:
            failed = journal.failure or ExecutionFailure(ErrorCode.AGENT_MISBEHAVED, str(error))
            ending.code, ending.message, ending.hint = failed.code, failed.message, failed.hint
    finally:
        await pool.close()
    ending.shown = "".join(each.text for each in log.shown if isinstance(each, ModelDelta))
    return ending
