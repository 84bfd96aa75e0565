"""A server in memory that has one execution, and scripted models, for legs that run in the test's process."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from pydantic import SecretStr
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.settings import ModelSettings

from agent_runner.errors import AttemptSuperseded, ServerRefused
from agent_runner.leg_parts import LegParts
from agent_runner.legs import LegRunner
from agent_runner.models import BuiltModel, ContextWindows
from agent_runner.models.asking import Answers, Watcher
from agent_runner.runner_locks import RunnerLocks
from agent_runner.secrets_in_use import SecretsInUse
from agent_runner.settings import load_settings
from agent_runner.tracing import NO_TRACING
from journal_legs import MOMENT
from stigmer_contract.api import ExecutionResource, LegGrant, LegHeld, Page, StartLeg
from stigmer_contract.attachments import Attachment
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    EVENT_ADAPTER,
    EnvironmentDescribed,
    Event,
    InlinePayload,
    LegEnded,
    LegEndReason,
    LegStarted,
    MessageReceived,
    Payload,
    RecordedEvent,
    Usage,
)
from stigmer_contract.inspections import Inspection
from stigmer_contract.manifest import AgentSpec
from stigmer_contract.mcp_logins import McpToken, WantMcpToken
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.tool_lists import ToolList, ToolPins
from stigmer_isolation.launcher import CommandLauncher

WAIT_SECONDS = 60.0
SESSION = "ses_01hzy8q5n3k9x2v7c4m6b1d0fg"


@dataclass(frozen=True)
class Unfinished:
    """An answer of which this much is shown, and nothing more ever comes."""

    said: str


Answer = Callable[[list[ModelMessage]], ModelResponse | Unfinished]


class Server:
    """The log of one execution, as a runner meets it."""

    def __init__(self, *, environments: Sequence[EnvironmentDescribed] = (), **spec: Any) -> None:
        """`environments` is what the session's earlier executions were told of where they work."""
        self.environments = list(environments)
        self.now = MOMENT
        self.spec = AgentSpec.model_validate({"instructions": "Work.", **spec})
        self.secrets: dict[str, SecretStr] = {}
        self.token_of: Callable[[str | None], McpToken] = lambda rejected: McpToken()
        """What MCP servers are called with, by the digest of the token that one has refused."""
        self.wanted_tokens: list[str | None] = []
        self.inspection: Inspection | None = None
        self.log: list[RecordedEvent] = []
        self.pins: dict[str, ToolList] = {}
        self.reported: list[ToolList] = []
        self.history: list[Payload] = []
        self.blobs: dict[str, bytes] = {}
        """What was stored, by SHA-256."""
        self.takes_blobs = True
        """Whether appends may bring small ones along."""
        self.stored_by_themselves = 0
        """Blobs that a call of their own has brought."""
        self.attachments: list[Attachment] = []
        """Files that come with the input."""
        self.attempt = 0
        self.cancel_requested = False
        self.is_paused = False
        self.refuses: str | None = None
        self.holds: list[str | None] = []
        self.is_wanted = False
        self.shown = ""
        """The text of all pieces of answers and of output that were shown."""
        self.written = asyncio.Condition()

    @property
    def events(self) -> list[Event]:
        return [recorded.event for recorded in self.log]  # type: ignore[misc]

    def attach(self, name: str, content: bytes) -> Attachment:
        """Let a file come with the input."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.blobs[sha256] = content
        self.attachments.append(Attachment(name=name, sha256=sha256, size_bytes=len(content)))
        return self.attachments[-1]

    def write(self, event: Event) -> None:
        self.log.append(RecordedEvent(sequence=len(self.log) + 1, recorded_at=self.now, event=event))

    async def start_leg(self, execution_id: str, request: StartLeg) -> LegGrant:
        self.attempt += 1
        self.write(LegStarted(attempt=self.attempt, runner=request.runner, runner_version="0"))
        return LegGrant(
            attempt=self.attempt,
            execution=ExecutionResource(
                execution_id=execution_id,
                session_id=SESSION,
                agent_name="main",
                model=None,
                phase=ExecutionPhase.IN_PROGRESS,
                attempt=self.attempt,
                last_sequence=len(self.log),
                cancel_requested=self.cancel_requested,
                usage=Usage(),
                created_at=datetime.now(UTC),
                paused_at=self.now if self.is_paused else None,
            ),
            spec=self.spec,
            secrets=self.secrets,
            input=InlinePayload(value="Go."),
            attachments=self.attachments,
            workspace=None,
            inspection=self.inspection,
            previous_execution_ids=[],
            history=self.history,
            environments=self.environments,
            events=self.log,
            lease=f"lease-{self.attempt}",
            takes_blobs=self.takes_blobs,
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        params: object = None,
        headers: object = None,
    ) -> bytes:
        if path.startswith("/v1/blobs/"):
            sha256 = path.rpartition("/")[2]
            if method == "PUT":
                self.stored_by_themselves += 1
                self.blobs[sha256] = content or b""
            return self.blobs[sha256]
        if path.startswith("/v1/executions/exe_1/mcp-tokens/"):
            wanted = WantMcpToken.model_validate_json(content or b"{}")
            self.wanted_tokens.append(wanted.rejected)
            return self.token_of(wanted.rejected).model_dump_json().encode()
        if path.startswith("/v1/executions/exe_1/tool-pins"):
            return self._pin(method, json.loads(content or b"{}"))
        if method == "GET":
            after = cast("dict[str, int]", params)["after"]
            return Page[RecordedEvent](items=self.log[after:]).model_dump_json().encode()
        body = json.loads(content or b"")
        if body["attempt"] != self.attempt:
            raise AttemptSuperseded(409, ErrorCode.ATTEMPT_SUPERSEDED, "fenced off")
        if path == "/v1/executions/exe_1/hold":
            async with self.written:
                self.holds.append(body["task_token"])
                self.written.notify_all()
            held = LegHeld(cancel_requested=self.cancel_requested, is_wanted=self.is_wanted)
            return held.model_dump_json().encode()
        assert path == "/v1/executions/exe_1/events"
        if self.refuses is not None and any(event["type"] == self.refuses for event in body["events"]):
            raise ServerRefused(422, ErrorCode.INVALID_REQUEST, f"no {self.refuses} today")
        async with self.written:
            events = [EVENT_ADAPTER.validate_python(event) for event in body["events"]]
            if any(self._has_more_to_say(event) for event in events):
                raise ServerRefused(409, ErrorCode.WOKEN, "a message came before")
            self.blobs |= {
                each["sha256"]: base64.b64decode(each["content"]) for each in body.get("blobs", ())
            }
            for event in events:
                self.write(event)
            self.written.notify_all()
        answer = {
            "last_sequence": len(self.log),
            "cancel_requested": self.cancel_requested,
            "message_sequence": self.last_message,
            "is_paused": self.is_paused,
        }
        return json.dumps(answer).encode()

    def _pin(self, method: str, body: dict[str, str]) -> bytes:
        if method == "GET":
            return ToolPins(pins=self.pins).model_dump_json().encode()
        found = ToolList.model_validate_json(body["tool_list"])
        self.reported.append(found)
        self.pins.setdefault(found.server, found)
        return b""

    @property
    def last_message(self) -> int:
        said = (each.sequence for each in self.log if isinstance(each.event, MessageReceived))
        return max(said, default=0)

    def say(self, text: str) -> int:
        """Send a message to the execution; its sequence."""
        self.write(MessageReceived(message=InlinePayload(value=text)))
        return len(self.log)

    def _has_more_to_say(self, event: Event) -> bool:
        if not isinstance(event, LegEnded) or event.reason is not LegEndReason.COMPLETED:
            return False
        return event.seen is not None and self.last_message > event.seen

    async def publish(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        assert path == "/v1/executions/exe_1/live"
        async with self.written:
            self.shown += "".join(str(event.get("text", "")) for event in json.loads(body)["events"])
            self.written.notify_all()

    async def wait_until_shown(self, text: str) -> None:
        async with self.written, asyncio.timeout(WAIT_SECONDS):
            await self.written.wait_for(lambda: text in self.shown)

    async def wait_for_holds(self, is_enough: Callable[[list[str | None]], bool]) -> None:
        async with self.written, asyncio.timeout(WAIT_SECONDS):
            await self.written.wait_for(lambda: is_enough(self.holds))

    async def wait_for(self, kind: type[object]) -> None:
        async with self.written, asyncio.timeout(WAIT_SECONDS):
            await self.written.wait_for(lambda: any(isinstance(event, kind) for event in self.events))


class ScriptedModels:
    """Builds one scripted model."""

    def __init__(self, answer: Answer, reference: str = "test:scripted") -> None:
        self._answer = answer
        self._reference = reference
        self.windows = ContextWindows()

    def pool(self) -> "ScriptedModels":
        return self

    async def build(self, reference: str | None, load_blob: object, model_keys: object) -> BuiltModel:
        return BuiltModel(Scripted(self._answer), self._reference)


class Scripted(FunctionModel, Answers):
    """A model as ours are."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(
            lambda messages, _info: cast("ModelResponse", answer(messages)),
            model_name="scripted",
            profile=ModelProfile(supports_json_schema_output=False),
        )
        self._answer = answer

    async def answer(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
        watcher: Watcher,
    ) -> ModelResponse:
        answered = self._answer(messages)
        if isinstance(answered, Unfinished):
            watcher.show_answer("text", answered.said)
            await asyncio.Event().wait()
        return cast("ModelResponse", answered)


def leg_runner(
    server: Any,
    answer: Answer,
    launcher: CommandLauncher,
    root: Path,
    reference: str = "test:scripted",
    environment: Mapping[str, str] | None = None,
) -> LegRunner:
    """A process's legs, whose sessions work beneath `root`; `reference` is what the model passes for."""
    own = {"STIGMER_TOKEN": "a-token-of-the-server", "SANDBOX_ROOT_DIR": str(root)}
    settings = load_settings({**own, **(environment or {})})
    models: Any = ScriptedModels(answer, reference)
    parts = LegParts(
        settings=settings,
        client=server,
        launcher=launcher,
        models=models,
        secrets=SecretsInUse(settings),
        tracing=NO_TRACING,
        locks=RunnerLocks(root, "1@host:a"),
    )
    return LegRunner(parts, identity="1@host:a")
