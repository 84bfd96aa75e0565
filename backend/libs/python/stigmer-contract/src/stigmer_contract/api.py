"""Bodies of the HTTP API under `/v1`, shared by the server, the command line and the runner.

Resources are what the server answers; requests what it accepts. Errors are `Problem`s (RFC 9457).
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
)

from stigmer_contract.artifacts import Artifact, LeftOutFile
from stigmer_contract.attachments import MAX_ATTACHMENTS, AttachedFile, Attachment
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    BlobPayload,
    EnvironmentDescribed,
    Event,
    ForkOrigin,
    LiveEvent,
    Payload,
    RecordedEvent,
    Usage,
)
from stigmer_contract.identifiers import OWNER_PATTERN as OWNER_PATTERN
from stigmer_contract.inputs import MAX_REASON_CHARACTERS, InputKind, InputOutcome
from stigmer_contract.inspections import Inspection
from stigmer_contract.isolation_words import IsolationLevel, IsolationSetting, Network
from stigmer_contract.manifest import AgentManifest, AgentSpec, Limits
from stigmer_contract.manifest_approval import ApprovalPolicy
from stigmer_contract.manifest_parts import MAX_SECRET_CHARACTERS, MIN_SECRET_CHARACTERS
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.waits import WaitReason

PROBLEM_CONTENT_TYPE = "application/problem+json"
IDEMPOTENCY_KEY_HEADER = "Idempotency-Key"
LAST_EVENT_ID_HEADER = "Last-Event-ID"
SILENCE_HEADER = "Stigmer-Silence-Seconds"
"""Of a stream: for how long it says nothing at most, while all is well."""
LEASE_HEADER = "Stigmer-Lease"
"""Carries `LegGrant.lease` on every other call that a runner makes for the leg."""
CONSOLE_HEADER = "Stigmer-Console"
"""Carries `ConsoleSession.secret` on every call that the console's page makes."""
MAX_INPUT_CHARACTERS = 1_000_000
MAX_APPEND_EVENTS = 100
MAX_BROUGHT_BLOBS = 100
MAX_BROUGHT_BYTES = 64 * 1024
"""Of each; what is larger has a call of its own."""
MAX_PATH_CHARACTERS = 4096
ADMINISTRATOR = "administrator"
"""Owner of what the server's own token makes, and of all that was there before there were owners."""

ItemT = TypeVar("ItemT")


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Resource(BaseModel):
    # A newer server may say more than this client knows.
    model_config = ConfigDict(extra="ignore", frozen=True)


class SharedWith(StrEnum):
    """Who sees and touches an object beside its owner; administrators always do."""

    NOBODY = "nobody"
    EVERYBODY = "everybody"
    EARLIER = "earlier"
    """Whoever had a token when owners came (the upgrade to them); the same people with later tokens, too."""


class SetOwner(_Request):
    """`PUT /v1/{agents,secrets,sessions}/{id}/owner`: whose the object is from now on."""

    owner: str | None = Field(default=None, pattern=OWNER_PATTERN)
    """None: it stays. A session's executions that were its owner's go along."""
    shared_with: SharedWith = SharedWith.NOBODY


class Owned(_Resource):
    """What every object of somebody's says."""

    owner: str = ADMINISTRATOR
    shared_with: SharedWith = SharedWith.NOBODY


class Problem(_Resource):
    """RFC 9457 problem document; `code` is stable, the texts are not."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None
    code: ErrorCode
    hint: str | None = None


class Page(_Resource, Generic[ItemT]):
    """One page of a list. `next_cursor` is opaque; None on the last page."""

    items: list[ItemT]
    next_cursor: str | None = None


class AgentResource(Owned):
    """An applied agent."""

    name: str
    version: int = Field(ge=1)
    """Counts up with each `apply` that changed something."""
    manifest: AgentManifest
    created_at: datetime
    updated_at: datetime


class CreateSession(_Request):
    """`POST /v1/sessions`."""

    workspace: str | None = Field(default=None, max_length=MAX_PATH_CHARACTERS)
    """Absolute directory to work in; None: a directory of the session's own."""


class SessionResource(Owned):
    """A conversation: ordered executions that share history and a workspace."""

    session_id: str
    workspace: str | None
    placement: str | None = None
    """Task queue on which its executions do their work; None: that of the standing runners."""
    created_at: datetime
    compaction_asked_at: datetime | None = None
    """When somebody asked that its next execution begin with a compacted conversation; None: nobody did."""
    input_head: str | None = None
    """Of its first execution."""
    agent_name: str | None = None
    """Of its newest execution."""
    execution_count: int = Field(default=0, ge=0)
    cost_usd: Decimal | None = None
    """Of all its executions together, as far as prices are known."""


class FileKind(StrEnum):
    """What an entry of a directory is."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    """A symbolic link, which is not followed."""
    OTHER = "other"


class FileEntry(_Resource):
    """One entry of a directory."""

    name: str
    """Bytes that are no UTF-8 as `\\xNN`; such a file cannot be asked for."""
    kind: FileKind
    size_bytes: int | None = None
    """Of a file."""
    modified_at: datetime


class FileListing(_Resource):
    """Answer of `GET /v1/sessions/{id}/files`: one directory of the session's workspace."""

    path: str
    """In the workspace; empty: its root."""
    entries: list[FileEntry]
    """By name."""
    is_whole: bool = True
    """Whether those are all."""


class CreateExecution(_Request):
    """`POST /v1/executions`. Exactly one of `agent` and `manifest`."""

    agent: str | None = Field(default=None, max_length=63)
    """Name of an applied agent: the caller's own, else the shared one of that name."""
    manifest: AgentManifest | None = None
    """An agent that is not applied."""
    input: str = Field(min_length=1, max_length=MAX_INPUT_CHARACTERS)
    attachments: list[AttachedFile] = Field(default_factory=list[AttachedFile], max_length=MAX_ATTACHMENTS)
    """Files for the agent, which the caller has stored as blobs."""
    session_id: str | None = Field(default=None, max_length=64)
    """None: a new session is made."""
    workspace: str | None = Field(default=None, max_length=MAX_PATH_CHARACTERS)
    """For a new session only, as in `CreateSession`."""
    model: str | None = Field(default=None, max_length=MAX_PATH_CHARACTERS)
    """`provider:name` that overrides the manifest's."""
    approve: ApprovalPolicy | None = None
    """What becomes of tool calls at the least; None: what the token's policy and the agent's rules say."""
    inspection: Inspection | None = None
    """Look at the agent's tools, or call one, in the place of asking a model."""
    snapshots: bool | None = None
    """As `spec.snapshots`, which it overrides; None: as the agent says."""


class ExecutionError(_Resource):
    """Why an execution failed."""

    code: ErrorCode
    message: str
    hint: str | None = None


class ExecutionResource(_Resource):
    """An execution as its log says it stands."""

    execution_id: str
    session_id: str
    owner: str = ADMINISTRATOR
    """Who started it, and whose secrets it is given. Whoever sees its session sees it, too."""
    agent_name: str
    model: str | None
    input_head: str | None = None
    """How its input begins, in one line of at most 120 characters. None where an old version started it with
    an input of more than 64 KiB."""
    phase: ExecutionPhase
    pending_reason: str | None = None
    """While pending: why nothing happens yet, e.g. `no runner is connected`."""
    standing_reason: str | None = None
    """Why it does not get on: no runner has it in hand, its workflow's tasks fail, and the like."""
    waiting_for: list[WaitReason] = Field(default_factory=list[WaitReason])
    """While waiting: what for; the first of these to come ends the wait."""
    attempt: int = Field(ge=0)
    """The newest leg attempt; 0 before the first."""
    last_sequence: int = Field(ge=1)
    cancel_requested: bool = False
    usage: Usage
    output: Payload | None = None
    error: ExecutionError | None = None
    created_at: datetime
    started_at: datetime | None = None
    """When the first leg started."""
    ended_at: datetime | None = None
    retried_at: datetime | None = None
    """When somebody let it go on the last time, after it had failed or while a model was away."""
    paused_at: datetime | None = None
    """Since when it is paused; None: it is not."""


class ArtifactList(_Resource):
    """Answer of `GET /v1/executions/{id}/artifacts`: what the execution left behind when it ended last."""

    items: list[Artifact]
    """By path."""
    left_out: list[LeftOutFile] = []
    """Files that patterns name, and why they were not collected."""
    further: int = 0
    """How many more were left out."""
    unmatched: list[str] = []
    """Patterns that no file matched."""
    is_whole: bool = True
    """Whether all of the workspace was looked at."""


class ExecutionPosition(_Resource):
    """How far an execution's log goes."""

    execution_id: str
    phase: ExecutionPhase
    last_sequence: int = Field(ge=1)


class RetryExecution(_Request):
    """`POST /v1/executions/{id}/retry`."""

    limits: Limits | None = None
    """Other limits, as in a manifest; those that are left out stay what they were."""


class CancelExecution(_Request):
    """`POST /v1/executions/{id}/cancel`."""

    reason: str | None = Field(default=None, max_length=1000)


class ForkExecution(_Request):
    """`POST /v1/executions/{id}/fork`: a new execution, in a session of its own, that goes on behind a step
    of this one. With no more than `at` it does the same again from there."""

    at: int = Field(ge=0)
    """The newest step that both share; 0: it begins anew."""
    prompt: str | None = Field(default=None, min_length=1, max_length=MAX_INPUT_CHARACTERS)
    """In the place of the first message; only at 0."""
    message: str | None = Field(default=None, min_length=1, max_length=MAX_INPUT_CHARACTERS)
    """Said behind that step."""
    answers: dict[str, Annotated[str, Field(max_length=MAX_INPUT_CHARACTERS)]] = Field(
        default_factory=dict[str, str], max_length=100
    )
    """By the id of a call of the turn that the step belongs to: what the model is told instead of its result.
    A call that was not made by then is not made."""
    agent: str | None = Field(default=None, max_length=63)
    """Name of an applied agent that goes on; None: the same as it was, or `manifest`."""
    manifest: AgentManifest | None = None
    """An agent that is not applied."""
    model: str | None = Field(default=None, max_length=MAX_PATH_CHARACTERS)
    """`provider:name`; None: the same, or that of the other agent."""


class RewindExecution(_Request):
    """`POST /v1/executions/{id}/rewind`: an execution of the same session that brings it back to a step of
    this one, files included, and asks no model. What came after stays in the logs, and can be forked."""

    at: int = Field(ge=0)
    """The newest step that stays; 0: none of this execution's."""


class SnapshotResource(_Resource):
    """What is known of an execution's files as they were at a step; exactly one of both is set."""

    step: int = Field(ge=0)
    listing: BlobPayload | None = None
    """Of the snapshot; its packs are blobs, too."""
    none_because: str | None = None


class PauseExecution(_Request):
    """`POST /v1/executions/{id}/pause`."""

    reason: str | None = Field(default=None, max_length=1000)


class SendMessage(_Request):
    """`POST /v1/executions/{id}/messages`."""

    text: str = Field(min_length=1, max_length=MAX_INPUT_CHARACTERS)


class MessageResource(_Resource):
    """A message that was accepted, and where it went."""

    execution_id: str
    """Which execution answers it. Where the one that it was sent to had ended, it is the newest of the
    session: one that has not ended, else one that the message starts."""
    sequence: int = Field(ge=1)
    """Of its event `message.received`; 1: it is the input of an execution that it started."""
    starts_execution: bool = False
    """Whether it is the input of an execution that it started."""


class ResolveInput(_Request):
    """`POST /v1/inputs/{id}`: decide."""

    outcome: Literal[InputOutcome.APPROVED, InputOutcome.DENIED, InputOutcome.ANSWERED]
    answer: JsonValue = None
    """Of a question: a value that fits its `answer_schema`."""
    arguments: dict[str, JsonValue] | None = None
    """Of a call that is approved: run it with these arguments instead."""
    reason: str | None = Field(default=None, min_length=1, max_length=MAX_REASON_CHARACTERS)
    """Why; the model is told."""
    grants_kind: bool = False
    """Approve all calls of this kind, by the rule in the input's `kind_rule`, until the execution ends."""


class InputResolution(_Resource):
    """How an input was resolved."""

    outcome: InputOutcome
    resolved_at: datetime
    resolved_by: str | None = None
    """The name of the token; None: nobody decided."""
    origin: str | None = None
    reason: str | None = None


class InputResource(_Resource):
    """Something that an execution asks of a person."""

    input_id: str
    execution_id: str
    session_id: str
    owner: str
    """Of the execution."""
    agent_name: str
    kind: InputKind
    toolset: str
    tool: str
    call_id: str
    title: str
    content: Payload
    """A `Question`, an `Approval`, …"""
    answer_schema: dict[str, JsonValue] | None = None
    requested_at: datetime
    expires_at: datetime | None = None
    remind_at: datetime | None = None
    on_expiry: str = "deny"
    reminded_at: datetime | None = None
    """When people were reminded of it; None: they were not."""
    escalated_to: str | None = None
    """Who else may decide since then."""
    resolution: InputResolution | None = None
    """None while it waits."""


class GrantResource(_Resource):
    """A kind of call that a person has approved: further ones like it run without a question."""

    input_id: str
    """Of the approval with which it was granted."""
    execution_id: str
    rule: JsonValue
    """As in a manifest's `spec.approval`."""
    granted_at: datetime
    granted_by: str | None = None
    """The name of their token."""
    revoked_at: datetime | None = None
    """None: it holds, for as long as the execution runs."""
    revoked_by: str | None = None


class SecretResource(Owned):
    """A secret, without its value: that is given to runners only."""

    name: str
    created_at: datetime
    updated_at: datetime


def check_secret_value(value: str) -> None:
    """Whether a secret can be kept, handed to a command, and masked.

    Raises:
        ValueError: why not; does not repeat the value.
    """
    if len(value) < MIN_SECRET_CHARACTERS:
        raise ValueError(
            f"a secret has at least {MIN_SECRET_CHARACTERS} characters: a shorter one could not be masked"
        )
    if len(value) > MAX_SECRET_CHARACTERS:
        raise ValueError(f"a secret has at most {MAX_SECRET_CHARACTERS} characters")
    if "\0" in value:
        raise ValueError("a secret cannot hold a null byte: no command could be given it")
    try:
        value.encode()
    except UnicodeEncodeError:
        # Not as the cause: it holds the value.
        raise ValueError("a secret cannot hold half a character (a lone surrogate): it is not text") from None


def _check_secret(value: SecretStr) -> SecretStr:
    check_secret_value(value.get_secret_value())
    return value


class SetSecret(_Request):
    """`PUT /v1/secrets/{name}`."""

    value: Annotated[SecretStr, AfterValidator(_check_secret)]
    """8 to 32768 characters, none of them NUL."""


class SecretsKeyRotation(_Resource):
    """Answer of `POST /v1/secrets/rotate-key`."""

    reencrypted: int
    """Secrets that were encrypted anew."""
    old_keys_removed: bool
    """False where the key file cannot be written: whoever keeps it may then remove all but its first line."""


# --- what only runners call -------------------------------------------------------------------


class StartLeg(_Request):
    """`POST /v1/executions/{id}/legs`: take the execution, fencing off every earlier attempt."""

    runner: str = Field(min_length=1, max_length=255)
    """Name of the runner process, as Temporal shows it."""
    runner_version: str = Field(max_length=64)
    key: str | None = Field(default=None, min_length=1, max_length=255)
    """One for each attempt of the activity: the same runner with the same key gets the same attempt again."""
    task_token: str | None = Field(default=None, max_length=4096)
    """Temporal's token of the activity in base64, by which it is ended where its runner is known to have."""
    log_format: int = Field(default=1, ge=1)
    """The newest form of events that the runner reads; a runner that names none is of version 0.1.0."""
    sent_at: AwareDatetime | None = None
    """When this was sent, by the runner's clock."""
    ahead_of_temporal_seconds: float | None = Field(default=None, allow_inf_nan=False)
    """How far the runner's clock was ahead of Temporal's when the leg began."""


class EarlierLog(_Resource):
    """An earlier execution of the session that its stored history does not hold, or not wholly."""

    execution_id: str
    after: int = Field(ge=0)
    """Events up to this sequence are held."""
    until: int | None = None
    """Events after this one are of no concern: a fork left the execution there."""


class Resumption(_Resource):
    """How far an execution's stored history goes; as `HistoryStored`."""

    turn: int
    usage: Usage
    counters: dict[str, int | str]


class LegGrant(_Resource):
    """Everything a leg needs. `leg.started` is already the last of `events`."""

    attempt: int = Field(ge=1)
    execution: ExecutionResource
    spec: AgentSpec
    input: Payload
    attachments: list[Attachment] = []
    """Files that came with the input."""
    secrets: dict[str, SecretStr] = Field(default_factory=dict[str, SecretStr])
    """Values of the secrets that the spec names, by name; without those that the server does not have."""
    model_keys: dict[str, SecretStr] = Field(default_factory=dict[str, SecretStr])
    """Those of the owner's secrets that are keys of models' endpoints, by name; nothing of the agent's."""
    workspace: str | None
    """The session's directory where the person named one; None: `SANDBOX_ROOT_DIR/<session_id>`."""
    history: list[Payload] = []
    """What the model was shown before, in pieces (each a `HistoryPiece`), in order."""
    earlier: list[EarlierLog] = []
    """Executions that come after these pieces, oldest first; what their logs tell comes behind the pieces."""
    previous_execution_ids: list[str]
    """All earlier executions of the session, oldest first, for a runner that cannot read the pieces."""
    ancestors: list[EarlierLog] = []
    """Executions of other sessions that this one's was forked from, whole and oldest first, for the same."""
    fork: ForkOrigin | None = None
    """As in `execution.started`."""
    resumption: Resumption | None = None
    """Where this execution's own newest piece ends; None where it has none yet."""
    inspection: Inspection | None = None
    """What is done in the place of asking a model."""
    environments: list[EnvironmentDescribed] = []
    """What the session's agents were told of where they work, oldest first."""
    snapshot: BlobPayload | None = None
    """The newest listing that the session's log names, where snapshots are taken of its workspace."""
    events: list[RecordedEvent]
    """The log after that piece, ascending by sequence, behind all `message.received` and `input.resolved`
    before it; without such a piece the whole log."""
    approve: ApprovalPolicy | None = None
    """What becomes of tool calls at the least, as in `execution.started`."""
    seconds_left: float | None = None
    """Until `limits.duration` is over, by the server's clock; None where there is no such limit."""
    lease: str
    """Proves that this token was granted the leg; its other calls for it carry it in `LEASE_HEADER`."""
    lost_runners: list[str] = []
    """Runners of the legs right before this one that were lost: their commands have to end first."""
    takes_blobs: bool = False
    """Whether an append may bring small blobs along; servers before 0.2 know only `PUT /v1/blobs`."""
    pause_seconds: float = 0.0
    """To wait before the first step: legs before this one were lost without getting any further."""


class HoldLeg(_Request):
    """`POST /v1/executions/{id}/hold`: the runner goes on with its leg, whatever became of the activity."""

    attempt: int = Field(ge=1)
    task_token: str | None = Field(default=None, max_length=4096)
    """Of the activity that stands for the leg from now on, as in `StartLeg`; None: as before, or none."""


class LegHeld(_Resource):
    """Answer of `POST /v1/executions/{id}/hold`."""

    cancel_requested: bool
    is_wanted: bool
    """Whether another runner waits for the execution: this one finishes the step in hand, and hands back."""
    is_paused: bool = False
    """As in `AppendResult`."""


class ClockReading(_Resource):
    """Another clock, compared with the server's."""

    of: str
    """`Temporal`, or `runner NAME`."""
    ahead_seconds: float
    """Negative: it is behind. What a call takes counts as well."""


class InstallationResource(_Resource):
    """Answer of `GET /v1/installation`: under which names Temporal knows what belongs to this server."""

    installation_id: str
    """All servers of one database share it."""
    task_queue: str
    """Where new executions run, as far as the caller knows their workflow."""
    older_task_queues: list[str]
    """Where executions run that were started under another name, or by older code, and have not ended."""
    unknown_legs: int = 0
    """Legs of executions that are not kept here, which runners asked this server for since it started."""
    clocks: list[ClockReading] = []
    """Other clocks, as the newest leg of each runner showed them."""
    version: str | None = None
    """The server's; None: it is older than this field."""
    build: str | None = None
    """Which of the builds of this version it is: runners of another one may not understand it."""


class RunnerEnded(_Request):
    """`POST /v1/runners/ended`: a runner process is no more. Only who started it has the proof."""

    runner: str = Field(min_length=1, max_length=255)
    proof: str = Field(min_length=1, max_length=128)
    """As `stigmer_contract.runner_names` makes it."""
    hung: bool = False
    """It was ended by its starter, since it did not answer any more."""
    how: str = Field(min_length=1, max_length=500)
    """For people, such as `it was ended by signal 9`."""
    frozen_by: str | None = Field(default=None, max_length=64)
    """Execution whose leg held its event loop to the last, where that is known."""


class RunnerReport(_Request):
    """`POST /v1/runners/reports`: how a runner stands, told once a minute and when it changes."""

    runner: str = Field(min_length=1, max_length=255)
    version: str = Field(min_length=1, max_length=64)
    slots: int = Field(ge=1, le=100_000)
    """How many executions it takes in hand at once."""
    draining: bool = False
    """It takes no more."""
    ended: bool = False
    """It is about to be no more."""
    isolation: IsolationLevel | None = None
    findings: list[Annotated[str, Field(max_length=1000)]] = Field(default=[], max_length=100)
    """What commands of agents can do that they should not, in words."""


class LostLegs(_Resource):
    """Answer of `POST /v1/runners/ended`."""

    execution_ids: list[str]
    """Executions that the runner had in hand; their next leg is on its way."""


class PlacementResource(_Resource):
    """A placement that has work to do: somebody must see to a runner that polls its task queue."""

    placement_id: str
    task_queue: str
    workspace: str
    """The directory that its runner needs."""
    executions: int
    """How many of them are to get on now."""


class PlacementList(_Resource):
    """Answer of `GET /v1/placements`."""

    placements: list[PlacementResource]
    """By id."""
    version: str
    """Equal for equal lists; the next call names it to wait for another one."""


class PlacementPhase(StrEnum):
    """How the runner of a placement stands, as whoever starts it sees it."""

    WAITING = "waiting"
    """It is to be started, or started again, and something stands against that for the moment."""
    READY = "ready"
    FAILED = "failed"
    """It cannot be started: what the placement's executions wait for will not come."""


class PlacementReport(_Request):
    """`POST /v1/placements/{placement_id}/reports`: what became of the runner of a placement."""

    phase: PlacementPhase
    reason: str | None = Field(default=None, min_length=1, max_length=1000)
    """Unless it is ready: why, for people."""
    hint: str | None = Field(default=None, min_length=1, max_length=1000)
    """What helps, where it has failed."""


class PlacementReported(_Resource):
    """Answer to a `PlacementReport`."""

    execution_ids: list[str]
    """Executions that ended with it."""


class BroughtBlob(_Request):
    """A small blob that comes with the events that name it, which saves a call and a durable write."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    content: Base64Bytes = Field(max_length=MAX_BROUGHT_BYTES * 4 // 3 + 4)  # as base64


class AppendEvents(_Request):
    """`POST /v1/executions/{id}/events`: all or nothing, and once only."""

    attempt: int = Field(ge=1)
    append_id: str = Field(min_length=1, max_length=64)
    """Chosen by the runner. The same id again changes nothing and gets the same answer."""
    log_format: int = Field(default=1, ge=1)
    """The form of the events; a runner that names none is of version 0.1.0."""
    events: list[Event] = Field(min_length=1, max_length=MAX_APPEND_EVENTS)
    blobs: list[BroughtBlob] = Field(default=[], max_length=MAX_BROUGHT_BLOBS)
    """In the store before the events are in the log. For servers whose `LegGrant.takes_blobs` says so."""


class AppendResult(_Resource):
    """The log's new end."""

    last_sequence: int
    cancel_requested: bool
    message_sequence: int = 0
    """Of the newest message to the execution; 0: there is none."""
    is_paused: bool = False
    """Whether the execution is paused: the runner ends what it has in hand, and lets the leg wait."""


class PublishLiveEvents(_Request):
    """`POST /v1/executions/{id}/live`: shown to whoever watches, stored nowhere."""

    attempt: int = Field(ge=1)
    events: list[LiveEvent] = Field(min_length=1, max_length=MAX_APPEND_EVENTS)


class BlobResource(_Resource):
    """A stored blob."""

    sha256: str
    size_bytes: int


class ReadyCheck(_Resource):
    """One thing that readiness depends on."""

    name: str
    ok: bool
    detail: str | None = None
    """Why it is not ok."""


class IsolationState(_Resource):
    """How well a runner isolates agents' commands, as its self-test found."""

    level: IsolationLevel
    """From best to worst; below `partial` sessions are not isolated from each other."""
    setting: IsolationSetting
    """`STIGMER_ISOLATION`; with `require`, commands are refused below `partial`."""
    findings: list[str] = []
    """What commands can do that they should not, in words."""
    bubblewrap: bool = False
    """Whether bubblewrap hides from commands what they may not use, besides; no level depends on it."""
    no_bubblewrap_because: str | None = None
    """Why it does not."""


class Readiness(_Resource):
    """Answer of `/readyz` of the server (200 or 503) and of the runner."""

    ready: bool
    version: str
    checks: list[ReadyCheck]
    warnings: list[str] = []
    """What a person should see to before it keeps the program from being ready, such as a disk that fills."""
    isolation: IsolationState | None = None
    """Of a runner only."""
    other_build: str | None = None
    """Of a runner only: what to do, where the server is another build of the same version; else left out."""


# --- tokens and audit -------------------------------------------------------------------------


class TokenScope(StrEnum):
    """What a token lets its holder do."""

    RUNNER = "runner"
    """Start legs, and work on the executions that they lease. Nothing else."""
    USER = "user"
    """Apply agents, keep secrets, run executions and read them: one's own, and what is shared."""
    APPROVE = "approve"
    """See what executions of one owner ask of people, and decide. Nothing else."""
    ADMIN = "admin"
    """All of that with everybody's, and give out tokens, assign owners and read the audit trail."""


class TokenPolicy(_Request):
    """What executions that a token starts may be; a field that is left out excludes nothing."""

    allow_network: list[Network] | None = Field(default=None, max_length=3)
    """Values of `spec.network`."""
    allow_workspaces: list[str] | None = Field(default=None, max_length=50)
    """Directories in which the workspace of a session lies; the session's own directory always may be."""
    allow_secrets: list[str] | None = Field(default=None, max_length=50)
    """Patterns (`*`, `?`) of names of secrets."""
    approve: ApprovalPolicy | None = None
    """What becomes of their tool calls at the least, whatever the agent's rules say."""
    max_cost_per_day_usd: Decimal | None = Field(default=None, gt=0)
    """Of all that was started with the token, from midnight to midnight UTC."""


NO_POLICY = TokenPolicy()


class CreateToken(_Request):
    """`POST /v1/tokens`."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    """DNS label; of the tokens that are not revoked, only one has it."""
    scope: TokenScope
    owner: str | None = Field(default=None, pattern=OWNER_PATTERN)
    """Who the token stands for; None: its name. Tokens of one owner see and make the same things."""
    expires_in_seconds: int | None = Field(default=None, ge=1, le=10 * 366 * 86_400)
    """None: until it is revoked."""
    policy: TokenPolicy = NO_POLICY


class TokenResource(_Resource):
    """A token, without its text, which the server does not keep."""

    token_id: str
    name: str
    scope: TokenScope
    owner: str = ADMINISTRATOR
    created_at: datetime
    created_by: str
    """Name of the token that made it."""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """Up to a minute behind."""
    policy: TokenPolicy = NO_POLICY


class CreatedToken(TokenResource):
    """A new token with its text, which is shown this once."""

    token: str


class CallerResource(_Resource):
    """Whose token a call carries."""

    name: str
    scope: TokenScope
    owner: str = ADMINISTRATOR
    expires_at: datetime | None = None


class AuditEntry(_Resource):
    """Who did what when to which object. Never what a request or an answer held."""

    sequence: int = Field(ge=1)
    recorded_at: datetime
    actor: str | None
    """Name of the caller's token; None: the call carried no valid one."""
    scope: TokenScope | None
    action: str
    """Method and route, such as `DELETE /v1/sessions/{session_id}`; `authenticate` where that failed."""
    target: str | None
    """The object's id or name."""
    status: int
    """Of the HTTP answer."""
    peer: str | None
    """Address that the call came from."""


# --- what is going on, and what it cost -------------------------------------------------------


class Summary(_Resource):
    """Answer of `GET /v1/summary`: how what the caller sees stands, at a glance."""

    pending: int
    in_progress: int
    waiting: int
    completed: int
    """Ended so since the time that was asked for, as the next two."""
    failed: int
    cancelled: int
    open_inputs: int
    """What waits for a person."""
    usage: Usage
    """Since then, from the beginning of that quarter of an hour."""


class UsageShare(_Resource):
    """A part of what was used."""

    name: str
    """Of the agent, the model or the owner; empty where the model is not known."""
    usage: Usage


class UsagePeriod(_Resource):
    """What was used between two times."""

    begins_at: datetime
    ends_at: datetime
    usage: Usage


class UsageReport(_Resource):
    """Answer of `GET /v1/usage`: what models were paid for, of what the caller sees."""

    total: Usage
    periods: list[UsagePeriod]
    """One after the other, as they were asked for."""
    agents: list[UsageShare]
    """The greatest cost first, as in the next two."""
    models: list[UsageShare]
    owners: list[UsageShare]


class ValidateManifest(_Request):
    """`POST /v1/manifests/validate`."""

    text: str = Field(max_length=262_144)
    """YAML, as a person writes it."""


class ManifestFinding(_Resource):
    """One thing that is wrong in a manifest, and where."""

    line: int
    """From 1."""
    column: int
    """From 1, in characters."""
    field_path: str
    """Such as `spec.limits.duration`; empty for the document itself."""
    message: str
    hint: str | None = None


class ManifestValidation(_Resource):
    """Answer of `POST /v1/manifests/validate`: what `stigmer validate` says of the same text."""

    manifests: list[AgentManifest]
    """The agents of the text; none where anything is wrong."""
    findings: list[ManifestFinding]
    """What is wrong, in the order of the text."""
    unsupported: list[str] = []
    """Fields that are valid, and that this version does not know how to run yet."""


class RunnerState(_Resource):
    """A runner that was heard of lately."""

    name: str
    heard_at: datetime
    """Each of its calls counts; one that has nothing to do makes one a minute."""
    in_hand: int
    """How many executions it works on."""
    version: str | None = None
    """None, like what follows: it has not said so, as one of an earlier version."""
    slots: int | None = None
    """How many executions it takes in hand at once."""
    draining: bool = False
    """It takes no more."""
    isolation: IsolationLevel | None = None
    """How well it isolates agents' commands."""
    findings: list[str] = []
    """What commands can do that they should not, in words."""


class QueueState(_Resource):
    """What stands before the runners."""

    pending: int
    in_hand: int
    problem: str | None = None
    """Why nobody takes what is on it."""


class StackState(_Resource):
    """Answer of `GET /v1/stack`: how the installation stands."""

    readiness: Readiness
    installation: InstallationResource
    queue: QueueState
    runners: list[RunnerState]
    """The one heard of last first."""


# --- the console ------------------------------------------------------------------------------


class ConsoleLink(_Resource):
    """Answer of `POST /v1/console/links`: what opens the console once."""

    secret: str
    """Stands in the fragment of the page's address, as `#sign-in=…`."""
    path: str
    """Of the page."""
    expires_at: datetime
    has_page: bool
    """Whether the server has a page to open: one from a checkout has none until it is built."""


class SignIn(_Request):
    """`POST /v1/console/sessions`."""

    secret: str = Field(min_length=1, max_length=128)
    """Of a `ConsoleLink`."""


class ConsoleSession(_Resource):
    """Answer of `POST /v1/console/sessions`, beside a cookie; neither opens anything without the other."""

    secret: str
    """For `CONSOLE_HEADER`."""
    expires_at: datetime
