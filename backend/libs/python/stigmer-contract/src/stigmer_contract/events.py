"""Everything that can be said about an execution, as one discriminated union.

An execution is an append-only log of `RecordedEvent`s. One log serves the person watching, recovery,
the conversation and audit. `LiveEvent`s are seen only by whoever watches at that moment; they carry
no sequence and are never stored.

JSON is snake_case. Sizes are bytes, durations seconds, times aware UTC.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from stigmer_contract.artifacts import (
    MAX_ARTIFACT_PATTERNS,
    MAX_ARTIFACTS,
    MAX_LEFT_OUT,
    Artifact,
    LeftOutFile,
)
from stigmer_contract.attachments import MAX_ATTACHMENTS, Attachment
from stigmer_contract.conversation import ToolOutcome as ToolOutcome
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.inputs import MAX_REASON_CHARACTERS, MAX_TITLE_CHARACTERS, InputKind, InputOutcome
from stigmer_contract.inspections import Inspection
from stigmer_contract.manifest import AgentSpec, Limits
from stigmer_contract.manifest_approval import ApprovalPolicy, Escalation
from stigmer_contract.waits import WaitReason

LOG_FORMAT = 2
"""The newest form of events, which the server gives to every reader. 1 is that of version 0.1.0."""

INLINE_PAYLOAD_MAX_BYTES = 64 * 1024
"""A payload whose JSON is larger than this goes to the blob store; the log holds the reference."""
ASKED_TEXT_CHARACTERS = 200
"""How much of a request's part is kept to show a difference by."""
MAX_NAMED_TOOLS = 100
"""Of each kind in `tools.changed`; further ones are not named."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InlinePayload(_Frozen):
    """A value that stands in the log itself; at most `INLINE_PAYLOAD_MAX_BYTES` as JSON."""

    kind: Literal["inline"] = "inline"
    value: JsonValue


class BlobPayload(_Frozen):
    """A value in the blob store: the UTF-8 JSON text of the value, under its own SHA-256."""

    kind: Literal["blob"] = "blob"
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)


Payload = Annotated[InlinePayload | BlobPayload, Field(discriminator="kind")]


class Usage(_Frozen):
    """What a model was paid for: one answer's share, or a total."""

    requests: int = 0
    input_tokens: int = 0
    """All input tokens, cached ones included."""
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: Decimal | None = None
    """US dollars; None where no price is known for the model."""
    estimated: bool = False
    """Whether some of the tokens are a guess of the runner's: the provider reported none."""

    @property
    def total_tokens(self) -> int:
        """Input and output together, as `limits.tokens` counts them."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        """The total of both. The cost stays known as far as it is known on either side."""
        costs = [cost for cost in (self.cost_usd, other.cost_usd) if cost is not None]
        return Usage(
            requests=self.requests + other.requests,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            cost_usd=sum(costs, Decimal(0)) if costs else None,
            estimated=self.estimated or other.estimated,
        )


# --- events that are stored -------------------------------------------------------------------


class ForkOrigin(_Frozen):
    """Where a fork comes from: it goes on behind a step of another execution."""

    execution_id: str
    step: int = Field(ge=0)
    """The newest step that it shares with the other; 0: it begins anew, behind what came before the other."""
    sequence: int = Field(ge=0)
    """What the model was shown up to this event of the other's log, is where this one's history begins."""
    steps_before: int = Field(ge=0)
    """Steps of the other that are in that history. The others that both share stand in this log, too."""
    snapshot: BlobPayload | None = None
    """The files that it begins with, as they were at that step; None: none."""
    no_files_because: str | None = None
    """Why it begins with no files, or, in place, with those that are there."""
    in_place: bool = False
    """Whether it only brings its own session back to that step: what the session's executions did since is no
    part of what comes after."""


class ExecutionStarted(_Frozen):
    """Sequence 1 of every log, written by the server when the execution is created."""

    type: Literal["execution.started"] = "execution.started"
    session_id: str
    agent_name: str
    spec: AgentSpec
    """The agent as it was at that moment; a later `apply` does not change this execution."""
    model: str | None = None
    """`provider:name` that overrides the manifest's; None: the manifest's, else the runner's default."""
    input: Payload
    """The person's message: a JSON string."""
    attachments: list[Attachment] = Field(default_factory=list[Attachment], max_length=MAX_ATTACHMENTS)
    """Files that came with it."""
    approve: ApprovalPolicy | None = None
    """What becomes of tool calls at the least, whatever the agent's rules say; None: only they decide."""
    compact: bool = False
    """Whether a person asked that the session's conversation be compacted before the first turn."""
    inspection: Inspection | None = None
    """What is done in the place of asking a model."""
    fork: ForkOrigin | None = None
    """Set where it is a fork. Behind a later step than 0 the model was shown `input` already."""


class LegStarted(_Frozen):
    """A runner took the execution. Written by the server when it grants the attempt."""

    type: Literal["leg.started"] = "leg.started"
    attempt: int = Field(ge=1)
    runner: str
    """Name of the runner process, as Temporal shows it."""
    runner_version: str


class LegEndReason(StrEnum):
    """Why a leg stopped."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DRAINED = "drained"
    WAITING = "waiting"
    """Nothing can go on until one of `waiting_for` has come."""


class LegEnded(_Frozen):
    """A runner put the execution down in good order. A runner that was killed leaves none."""

    type: Literal["leg.ended"] = "leg.ended"
    attempt: int = Field(ge=1)
    reason: LegEndReason
    waiting_for: list[WaitReason] = Field(default_factory=list[WaitReason], max_length=100)
    """What the execution waits for; empty unless the reason is `waiting`."""
    seen: int | None = Field(default=None, ge=1)
    """How far the leg knew the log when it decided to wait, or to complete the execution: with something
    that ends a wait, or with a message, beyond that, the event is refused."""


class LegLossCause(StrEnum):
    """How it is known that a leg will not go on."""

    RUNNER_ENDED = "runner_ended"
    """Who started its runner saw it end."""
    RUNNER_HUNG = "runner_hung"
    """Its runner did not answer any more, and was ended by who had started it."""
    RUNNER_SILENT = "runner_silent"
    """Temporal missed its runner, and gave the leg to another one."""
    TAKEN_AGAIN = "taken_again"
    """Temporal missed its runner, which lives, and took the execution once more."""


class LegLost(_Frozen):
    """A leg that left no `leg.ended` is over. Written by the server."""

    type: Literal["leg.lost"] = "leg.lost"
    attempt: int = Field(ge=1)
    runner: str
    cause: LegLossCause
    how: str | None = None
    """What was seen, for a person, such as `it was ended by signal 9`."""


class AskedPart(_Frozen):
    """One part of what was new in a request since the agent's last one, told apart by its digest."""

    part: str
    """What it is: `user-prompt`, `tool-return`, `text`, `tool-call`, …"""
    digest: str
    """The first 16 hexadecimal digits of a SHA-256 over its words; no times, no ids of runs."""
    text: str | None = None
    """How it begins, where it stands in no other event: at most `ASKED_TEXT_CHARACTERS`."""


class Asked(_Frozen):
    """Fingerprint of a request: a recorded answer is played only to who asks the same."""

    parts: list[AskedPart]
    """What the request said that the agent's last one had not."""
    conversation: str
    """Digest over the parts of all of the agent's requests so far."""
    tools: str
    """Digest of the tools that the model was offered."""
    instructions: str
    """Digest of the agent's instructions."""
    settings: str
    """Digest of the model's settings."""


class EnvironmentDescribed(_Frozen):
    """What the session's agents are told of where they work: a part of its own of the model's instructions.

    Written once. Later legs, on whichever machine, and the session's later executions read it here.
    """

    type: Literal["environment.described"] = "environment.described"
    text: str
    workspace: str
    """The working directory that the text names."""
    time_zone: str
    """Name in the IANA database; the dates that the agent is told are of it."""
    tools: list[str]
    """The toolsets of the agent that it was written for; one with others is told anew."""
    network: str
    """What that agent's commands may reach; likewise."""


class ModelResponded(_Frozen):
    """One complete model answer. It is paid for, so it is never asked for again."""

    type: Literal["model.responded"] = "model.responded"
    agent_path: str = ""
    """Which agent asked: empty for the execution's own, else call and name of each agent on the way."""
    turn: int = Field(ge=1)
    """1 for the agent's first answer."""
    nth: int = Field(default=1, ge=1)
    """Which request of that turn; more than 1 where the first was handed in and collected later."""
    model: str
    """`provider:name` that answered."""
    response: Payload
    """The answer: a `ModelAnswer`."""
    usage: Usage
    retries: int = 0
    """How often the request failed before this answer came."""
    duration_seconds: float = Field(ge=0)
    asked: Asked | None = None
    """What was asked; None in logs of 0.1.0."""


class ModelFailed(_Frozen):
    """A request for an answer failed, and is made again. It holds all that a later leg needs to go on so."""

    type: Literal["model.failed"] = "model.failed"
    agent_path: str = ""
    """Which agent asked, as in `model.responded`."""
    turn: int = Field(ge=1)
    nth: int = Field(default=1, ge=1)
    """Which request of that turn, as in `model.responded`."""
    model: str
    """`provider:name` that was asked."""
    message: str
    """One line for a person: how it failed, in the provider's own words."""
    failures: int = Field(ge=1)
    """How often the request has failed, this time included."""
    answered: int = Field(default=0, ge=0)
    """How often of these the model had answered, or begun to: such answers are paid for, and few are asked
    for again."""
    since: AwareDatetime
    """When it failed first, by the server's clock."""
    next_try_at: AwareDatetime
    """When it is made again, by the server's clock."""


class ModelInterrupted(_Frozen):
    """An answer was cut off because the execution was cancelled. What the agent had said by then is kept."""

    type: Literal["model.interrupted"] = "model.interrupted"
    turn: int = Field(ge=1)
    nth: int = Field(default=1, ge=1)
    """Which request of that turn, as in `model.responded`."""
    model: str
    """`provider:name` that was asked."""
    text: Payload
    """What it had said: a JSON string, which ends where the answer was cut. The session's later executions
    are told that it is no whole answer."""
    usage: Usage
    """An estimate: of an answer that is cut off no provider reports any."""


class HistoryRepaired(_Frozen):
    """The provider refused the conversation as it was, and took it with something changed.

    The log itself stays as it is; only what this provider is sent differs.
    """

    type: Literal["history.repaired"] = "history.repaired"
    turn: int = Field(ge=1)
    message: str
    """One line for a person: what was changed, and how the provider refused it before."""


class ToolStarted(_Frozen):
    """A tool is about to run. With side effects: written down before it runs (write-ahead)."""

    type: Literal["tool.started"] = "tool.started"
    agent_path: str = ""
    """Whose call it is, as in `model.responded`."""
    turn: int = Field(ge=1)
    call_id: str
    nth: int = Field(default=1, ge=1)
    """Which call of that id in that turn."""
    toolset: str = ""
    """The toolset that has the tool; empty in logs of 0.1.0."""
    tool: str
    arguments: Payload
    """A JSON object."""
    side_effects: bool
    """False: only reads, so it simply runs again after a crash."""


class ToolFinished(_Frozen):
    """How a tool call ended, and its result as the model is told. Each call of each answer gets one."""

    type: Literal["tool.finished"] = "tool.finished"
    agent_path: str = ""
    """Whose call it is, as in `model.responded`."""
    turn: int = Field(ge=1)
    call_id: str
    nth: int = Field(default=1, ge=1)
    """Which call of that id in that turn."""
    toolset: str = ""
    """The toolset that has the tool; empty where there is none of that name, and in logs of 0.1.0."""
    tool: str
    outcome: ToolOutcome
    result: Payload
    """What the model is told: a `ToolResult`."""
    duration_seconds: float = Field(ge=0)


class StepFinished(_Frozen):
    """The result of any other step: it is in the log, so the step is not done again."""

    type: Literal["step.finished"] = "step.finished"
    agent_path: str = ""
    """Whose step it is, as in `model.responded`."""
    kind: str
    """What kind of step: `tools.listed`, `operation`, `note`, `message`, `input`, `submitted`, or another."""
    key: str
    """Which of that kind: the toolset's id, the operation's name, the turn, …"""
    nth: int = Field(default=1, ge=1)
    """Which step of that kind and key, by the same agent."""
    digest: str | None = None
    """Of the arguments, or of the list that came; as in `AskedPart`."""
    result: Payload | None = None
    """None where it is that of the agent's last step of that kind, key and digest."""
    usage: Usage | None = None
    """What it was paid for; None where it asked no model."""
    duration_seconds: float = Field(default=0, ge=0)


class RequestChanged(_Frozen):
    """A later version asks otherwise. Recorded answers hold; this is how it asks from this turn on."""

    type: Literal["request.changed"] = "request.changed"
    agent_path: str = ""
    turn: int = Field(ge=1)
    changed: list[Literal["tools", "instructions", "settings"]]


class HistoryStored(_Frozen):
    """A piece of the session's history: the exact messages that are new since the piece before.

    Together the pieces hold all that the model was shown up to here, earlier executions included.
    """

    type: Literal["history.stored"] = "history.stored"
    turn: int = Field(ge=0)
    """The newest answer of this execution that it holds; a later leg begins with the next."""
    messages: Payload
    """A `HistoryPiece`."""
    replaces: bool
    """Whether the messages stand in the place of all before: the session's first piece, or a compaction."""
    more_follows: bool = False
    """Whether the next event holds more of the same piece, which was too large for one; only with that one
    does it count."""
    usage: Usage
    """Of this execution so far."""
    counters: dict[str, int | str] = {}
    """What the runner had counted, so that a later leg counts on; opaque."""


class InputRequested(_Frozen):
    """Something is asked of a person. Its step goes on once the `input.resolved` of that id is in the log."""

    type: Literal["input.requested"] = "input.requested"
    input_id: str = Field(pattern=r"^inp_[0-9a-z]{26}$")
    """Of all executions' inputs."""
    kind: InputKind
    agent_path: str = ""
    """Whose call asks, as in `model.responded`."""
    turn: int = Field(ge=1)
    call_id: str
    nth: int = Field(default=1, ge=1)
    """Which input of that call."""
    toolset: str = ""
    tool: str
    title: str = Field(max_length=MAX_TITLE_CHARACTERS)
    """What is asked, in one line."""
    content: Payload
    """All of it: a `Question`, an `Approval`, …"""
    answer_schema: dict[str, JsonValue] | None = None
    """JSON Schema that an answer has to fit."""
    expires_at: AwareDatetime | None = None
    """When it expires unanswered, by the server's clock."""
    remind_at: AwareDatetime | None = None
    """When somebody is to be reminded of it."""
    on_expiry: Literal["deny", "approve"] = "deny"
    """What becomes of a call whose approval expires."""
    escalate: Escalation | None = None
    """Who else is told at the time of the reminder."""


class InputResolved(_Frozen):
    """The first of an answer, the expiry and the execution's end has come. Written by the server."""

    type: Literal["input.resolved"] = "input.resolved"
    input_id: str
    outcome: InputOutcome
    resolved_by: str | None = None
    """Who decided: the name of their token; None: nobody did."""
    origin: str | None = None
    """From where: a network address."""
    reason: str | None = Field(default=None, max_length=MAX_REASON_CHARACTERS)
    """Why, in the person's words; the model is told."""
    answer: Payload | None = None
    """A value that fits the `answer_schema`; only of what was answered."""
    arguments: Payload | None = None
    """A JSON object: with these the call is approved, in the place of the model's; None: with the model's."""
    grants: str | None = None
    """The rule by which calls of that kind are approved from here on, in this execution."""
    granted_with: str | None = None
    """Id of the approval with which the person approved all calls of this kind; None: this one by itself."""


class InputReminded(_Frozen):
    """An input has waited for so long that people are reminded of it. Written by the server, once."""

    type: Literal["input.reminded"] = "input.reminded"
    input_id: str
    escalated_to: str | None = None
    """Who else may decide from here on."""
    webhook: str | None = None
    """Name of the webhook that is told, whatever it wants to know of besides."""


class GrantRevoked(_Frozen):
    """A kind of call that a person had approved is asked about again. Written by the server."""

    type: Literal["grant.revoked"] = "grant.revoked"
    input_id: str
    """Of the approval with which it was granted."""
    revoked_by: str | None = None
    """The name of their token."""
    origin: str | None = None
    """From where: a network address."""


class MessageReceived(_Frozen):
    """A person said something more while the execution was under way."""

    type: Literal["message.received"] = "message.received"
    message: Payload
    """A JSON string."""


class ExecutionRetried(_Frozen):
    """Somebody lets the execution go on: it had failed, or waits for a model, which is asked at once.

    Recorded answers and results hold. What a runner of before writes from here on is refused.
    """

    type: Literal["execution.retried"] = "execution.retried"
    limits: Limits | None = None
    """Those that hold from here on; None: the ones that held before."""


class ToolsChanged(_Frozen):
    """An MCP server offers something else than what this execution's agent was shown, and was pinned."""

    type: Literal["tools.changed"] = "tools.changed"
    server: str
    digest: str
    """Of what it offers now."""
    added: list[str] = Field(default=[], max_length=MAX_NAMED_TOOLS)
    """Names of tools, sorted, the first of them; none of these is offered to the model."""
    removed: list[str] = Field(default=[], max_length=MAX_NAMED_TOOLS)
    changed: list[str] = Field(default=[], max_length=MAX_NAMED_TOOLS)
    """Those that are described otherwise."""
    refused: bool
    """Whether calls of those that changed are refused until somebody accepts them."""


class ExecutionPaused(_Frozen):
    """Somebody lets the execution rest. What it has in hand ends first; then it waits until it is resumed."""

    type: Literal["execution.paused"] = "execution.paused"
    paused_by: str | None = None
    """The name of their token."""
    reason: str | None = None


class ExecutionResumed(_Frozen):
    """Somebody lets the execution go on that was paused."""

    type: Literal["execution.resumed"] = "execution.resumed"
    resumed_by: str | None = None
    """The name of their token."""


class WorkspaceWarned(_Frozen):
    """The agent changed files of its workspace that other programs execute later, on a person's machine."""

    type: Literal["workspace.warned"] = "workspace.warned"
    files: list[str] = []
    """Paths in the workspace, such as `.git/hooks/pre-commit`, sorted."""
    moved_aside: list[str] = []
    """Those that got another name, by which nothing executes them (`STIGMER_PROTECT_GIT=refuse`)."""
    further: int = Field(default=0, ge=0)
    """How many more there are."""
    is_whole: bool = True
    """Whether all of the workspace was looked at."""


class ArtifactsCollected(_Frozen):
    """Files of the workspace that are kept, as `spec.artifacts` asks for. The newest such event counts."""

    type: Literal["artifacts.collected"] = "artifacts.collected"
    files: list[Artifact] = Field(default_factory=list[Artifact], max_length=MAX_ARTIFACTS)
    """By path."""
    left_out: list[LeftOutFile] = Field(default_factory=list[LeftOutFile], max_length=MAX_LEFT_OUT)
    """Files that patterns name, and why they were not collected."""
    further: int = Field(default=0, ge=0)
    """How many more were left out."""
    unmatched: list[str] = Field(default_factory=list[str], max_length=MAX_ARTIFACT_PATTERNS)
    """Patterns that no file of the workspace matches."""
    is_whole: bool = True
    """Whether all of the workspace was looked at."""


class SnapshotTaken(_Frozen):
    """What the files of the workspace were, before or after a step that may have changed them.

    It stands in the log behind that step's end and before the next step with side effects begins.
    """

    type: Literal["snapshot.taken"] = "snapshot.taken"
    turn: int | None = Field(default=None, ge=1)
    call_id: str | None = None
    """The tool call after which the files were so; None: before the leg's first that may change any."""
    listing: BlobPayload
    """What is at each path, as the difference from the snapshot before, or as a whole."""
    contents: list[BlobPayload] = Field(default=[], max_length=1000)
    """What of it was not kept yet."""
    entries: int = Field(ge=0)
    """Files, directories and links."""
    size_bytes: int = Field(ge=0)
    """Of all files together."""
    changed: int = Field(ge=0)
    """Paths that are otherwise than in the snapshot before, or no more."""
    left_out: list[str] = []
    """What is no part of it and why, such as sockets and devices, as far as named here."""
    further_left_out: int = Field(default=0, ge=0)
    unsettled: int = Field(default=0, ge=0)
    """Files that somebody changed again and again while they were read."""
    duration_seconds: float = Field(ge=0)


class SnapshotSkipped(_Frozen):
    """No snapshot could be taken. The execution goes on."""

    type: Literal["snapshot.skipped"] = "snapshot.skipped"
    turn: int | None = Field(default=None, ge=1)
    call_id: str | None = None
    """As in `snapshot.taken`."""
    reason: str
    """One line for a person."""


class ExecutionCompleted(_Frozen):
    """The agent is done."""

    type: Literal["execution.completed"] = "execution.completed"
    output: Payload
    """The final answer: a JSON string, or the object that `output.schema` asks for."""


class ExecutionFailed(_Frozen):
    """The execution cannot go on, unless somebody retries it."""

    type: Literal["execution.failed"] = "execution.failed"
    code: ErrorCode
    message: str
    """One line for a person: what was attempted, on what, what happened."""
    hint: str | None = None
    """What to do about it, imperative."""


class ExecutionCancelled(_Frozen):
    """Somebody asked for it to stop, and it has stopped."""

    type: Literal["execution.cancelled"] = "execution.cancelled"
    reason: str | None = None


Event = Annotated[
    ExecutionStarted
    | LegStarted
    | LegEnded
    | LegLost
    | EnvironmentDescribed
    | ModelResponded
    | ModelFailed
    | ModelInterrupted
    | HistoryRepaired
    | ToolStarted
    | ToolFinished
    | StepFinished
    | RequestChanged
    | HistoryStored
    | InputRequested
    | InputResolved
    | InputReminded
    | GrantRevoked
    | MessageReceived
    | ExecutionRetried
    | ToolsChanged
    | ExecutionPaused
    | ExecutionResumed
    | WorkspaceWarned
    | ArtifactsCollected
    | SnapshotTaken
    | SnapshotSkipped
    | ExecutionCompleted
    | ExecutionFailed
    | ExecutionCancelled,
    Field(discriminator="type"),
]
"""One fact in an execution's log, as it is written: strictly."""

TerminalEvent = ExecutionCompleted | ExecutionFailed | ExecutionCancelled


class UnknownEvent(BaseModel):
    """An event of another version, which the reader passes over. It keeps what it holds."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str


def _read_event(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    if not isinstance(value, dict):
        return handler(value)
    try:
        return EVENT_ADAPTER.validate_python(value, extra="ignore")
    except ValidationError:
        return UnknownEvent.model_validate(value)


AnyEvent = Annotated[Event | UnknownEvent, WrapValidator(_read_event)]
"""An event as it is read: what the reader does not know is passed over."""


class RecordedEvent(BaseModel):
    """An event with its place in the log."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    sequence: int = Field(ge=1)
    """From 1, without gaps, per execution; also the SSE `id`."""
    recorded_at: datetime
    attempt: int | None = None
    """The leg attempt that appended it; None for the server's own events."""
    event: AnyEvent


# --- events that only a watcher sees ----------------------------------------------------------


MAX_RETRY_REASON_CHARACTERS = 500


class ModelDelta(_Frozen):
    """A piece of an answer that is being written."""

    type: Literal["model.delta"] = "model.delta"
    turn: int = Field(ge=1)
    kind: Literal["text", "thinking"] = "text"
    text: str


class ModelPartial(_Frozen):
    """The whole text of the answer so far; replaces what was shown of this turn.

    Comes first after a (re)connect in the middle of an answer, and with empty text when a broken
    answer is asked for again.
    """

    type: Literal["model.partial"] = "model.partial"
    turn: int = Field(ge=1)
    text: str


class ToolOutput(_Frozen):
    """A piece of a running command's output."""

    type: Literal["tool.output"] = "tool.output"
    call_id: str
    stream: Literal["stdout", "stderr"]
    text: str


class ModelRetry(_Frozen):
    """A request to the model failed, and is made again after a while."""

    type: Literal["model.retry"] = "model.retry"
    turn: int = Field(ge=1)
    reason: str = Field(max_length=MAX_RETRY_REASON_CHARACTERS)
    """What failed, in one line."""
    seconds: float = Field(ge=0)
    """Until the next request."""


LiveEvent = Annotated[ModelDelta | ModelPartial | ModelRetry | ToolOutput, Field(discriminator="type")]

EVENT_ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)
LIVE_EVENT_ADAPTER: TypeAdapter[LiveEvent] = TypeAdapter(LiveEvent)
