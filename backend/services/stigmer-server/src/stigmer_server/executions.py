"""Executions: made, taken by runners, added to. Decides what each caller may do.

The log is written by `event_log`; workflows are kept in step with it by `reconciler`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from pydantic import BaseModel, JsonValue, SecretStr, TypeAdapter
from sqlalchemy import Connection, select

from stigmer_contract.api import (
    AppendEvents,
    AppendResult,
    CreateExecution,
    ExecutionResource,
    HoldLeg,
    LegHeld,
    Page,
    PublishLiveEvents,
    StartLeg,
)
from stigmer_contract.events import (
    EVENT_ADAPTER,
    INLINE_PAYLOAD_MAX_BYTES,
    BlobPayload,
    Event,
    ExecutionCancelled,
    ExecutionPaused,
    ExecutionResumed,
    ExecutionRetried,
    ExecutionStarted,
    GrantRevoked,
    InlinePayload,
    InputReminded,
    InputResolved,
    LegEnded,
    LegLost,
    LegStarted,
)
from stigmer_server.blobs import BlobStore
from stigmer_server.database import Database
from stigmer_server.errors import (
    AttemptSuperseded,
    Conflict,
    ExecutionEnded,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
)
from stigmer_server.event_broadcast import EventBroadcast
from stigmer_server.event_log import (
    Change,
    EventLog,
    NewEvent,
    StoredEvent,
    read_events,
    read_messages,
)
from stigmer_server.execution_lists import ExecutionFilter, list_query
from stigmer_server.execution_state import ExecutionState
from stigmer_server.idempotency import Answer, act_once
from stigmer_server.installation import Installation
from stigmer_server.leg_holds import LegHolds
from stigmer_server.leg_starts import take_leg
from stigmer_server.log_formats import LogFormats
from stigmer_server.new_executions import check_request, insert_execution, measure_attachments
from stigmer_server.owners import Caller
from stigmer_server.pages import page_of
from stigmer_server.runner_presence import RunnerPresence
from stigmer_server.secrets_store import Secrets
from stigmer_server.session_history import SessionHistory, find_history
from stigmer_server.sessions import find_session
from stigmer_server.snapshots import newest_listing
from stigmer_server.standing_reasons import StandingReasons
from stigmer_server.steady_clock import SteadyClock
from stigmer_server.tables import executions
from stigmer_server.temporal_client import TemporalClient

_JSON: Final[TypeAdapter[JsonValue]] = TypeAdapter(JsonValue)
_WRITTEN_BY_SERVER: Final = (
    *(ExecutionStarted, LegStarted, LegLost, ExecutionRetried, ExecutionPaused, ExecutionResumed),
    *(InputResolved, InputReminded, GrantRevoked),
)
"""Events that no runner may write."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a runner gets with a leg: the contract's `LegGrant`, the log as JSON text."""

    state: ExecutionState
    first: ExecutionStarted
    workspace: str | None
    history: SessionHistory
    previous_execution_ids: Sequence[str]
    """The session's earlier executions, oldest first."""
    stored: Sequence[StoredEvent]
    """After the newest piece of its own history."""
    snapshot: BlobPayload | None = None
    """The newest listing of the session's files, where snapshots are taken."""
    seconds_left: float | None = None
    """Until `limits.duration` is over."""
    secrets: Mapping[str, SecretStr] = field(default_factory=dict[str, SecretStr])
    model_keys: Mapping[str, SecretStr] = field(default_factory=dict[str, SecretStr])


class Executions:
    """The executions, by id."""

    def __init__(
        self,
        database: Database,
        log: EventLog,
        broadcast: EventBroadcast,
        blobs: BlobStore,
        secrets: Secrets,
        temporal: TemporalClient,
        formats: LogFormats,
        standing: StandingReasons,
        presence: RunnerPresence,
        installation: Installation,
        on_created: Callable[[ExecutionState], None],
    ) -> None:
        """`on_created` is told after the commit, and must not block."""
        self._database = database
        self._log = log
        self._broadcast = broadcast
        self._blobs = blobs
        self._secrets = secrets
        self._temporal = temporal
        self._formats = formats
        self._standing = standing
        self._presence = presence
        self._holds = LegHolds(database)
        self._installation = installation
        self._on_created = on_created

    async def create(self, request: CreateExecution, caller: Caller, idempotency_key: str | None) -> Answer:
        """Write a new execution down; its workflow starts afterwards, and later where Temporal is away.

        Raises:
            InvalidRequest: the request makes no sense.
            FeatureNotYet: the agent uses what does not exist yet.
            SecretMissing: the agent names a secret that is not kept.
            NotFound: there is no such agent or session.
            SessionBusy: the session has an execution in hand.
            IdempotencyKeyReused: the key came with another request.
        """
        check_request(request)
        payload = await self._blobs.wrap_text(request.input)
        attachments = measure_attachments(request, self._blobs)
        created: list[tuple[ExecutionState, StoredEvent]] = []

        def work(connection: Connection) -> Answer:
            def act() -> ExecutionResource:
                created.append(
                    insert_execution(connection, request, caller, payload, self._installation, attachments)
                )
                return created[0][0].to_resource()

            return act_once(connection, caller.owner, "executions", idempotency_key, request, act)[0]

        answer = await self._database.write(work)
        for state, first in created:
            self.announce(state, first)
        return answer

    def announce(self, state: ExecutionState, first: StoredEvent, *further: StoredEvent) -> None:
        """Show a new execution to whoever watches, and let its workflow start."""
        self._broadcast.publish_recorded(state, [first, *further])
        self._on_created(state)

    async def get(self, execution_id: str, caller: Caller) -> ExecutionResource:
        """The execution of this id.

        Raises:
            NotFound: there is none that the caller sees.
        """
        state = await self.load(execution_id, caller)
        reasons = await self._standing.find_one(state)
        return state.to_resource(reasons.pending, reasons.standing)

    async def load(self, execution_id: str, caller: Caller | None = None) -> ExecutionState:
        """How the execution's log says it stands. Without a `caller`: for the server itself, or a runner.

        Raises:
            NotFound: there is none that the caller sees.
        """
        return await self._database.read(lambda connection: _find_execution(connection, execution_id, caller))

    async def list(
        self, caller: Caller, limit: int, cursor: str | None, wanted: ExecutionFilter
    ) -> Page[ExecutionResource]:
        """Executions, newest first.

        Raises:
            InvalidRequest: the cursor is not one that this server gave out.
        """

        def work(connection: Connection) -> Sequence[ExecutionState]:
            query = list_query(connection, caller, wanted, limit, cursor)
            return [ExecutionState.from_row(row) for row in connection.execute(query)]

        states = await self._database.read(work)
        reasons = await self._standing.find(states)
        resources = [
            state.to_resource(why.pending, why.standing) for state, why in zip(states, reasons, strict=True)
        ]
        return page_of(resources, limit, lambda resource: resource.execution_id)

    async def start_leg(self, execution_id: str, request: StartLeg) -> Grant:
        """Give the execution to a runner, which fences off every earlier attempt.

        Raises:
            NotFound: there is no such execution.
            ExecutionEnded: there is nothing left to do.
            RunnerTooOld: the runner does not read the log's newest form; the execution stays as it is.
            LegInHand: another runner finishes its step, and is told that it is waited for.
            AttemptSuperseded: a newer attempt holds the execution by now.
            Conflict: the execution is about to be placed elsewhere, where its next leg runs.
        """
        self._presence.hear(request.runner)
        self._installation.clocks.note(request)
        appended = await take_leg(execution_id, request, self._log, self._holds, self._presence)
        _check_open(appended.state)
        grant = await self._database.read(
            lambda connection: _load_grant(connection, appended.state, self._log.clock)
        )
        if not appended.stored:
            _check_attempt(appended.state, _attempt_at(grant.stored, appended.last_sequence))
        if self._installation.placement_of(grant.workspace) != appended.state.leg_task_queue:
            raise Conflict(f"execution {execution_id!r} is about to be placed elsewhere")
        grant = replace(grant, stored=await self._formats.newest(execution_id, grant.stored))
        owner = grant.state.owner
        secrets = await self._secrets.reveal(grant.first.spec.secret_names, owner)
        return replace(grant, secrets=secrets, model_keys=await self._secrets.reveal_model_keys(owner))

    async def hold_leg(self, execution_id: str, request: HoldLeg) -> LegHeld:
        """Let a runner go on with its leg, though Temporal may have lost the activity.

        Raises:
            NotFound: there is no such execution.
            AttemptSuperseded: a newer attempt holds the execution, or the leg is over.
            ExecutionEnded: the execution has ended.
        """

        def decide(state: ExecutionState) -> Change:
            _check_open(state)
            _check_attempt(state, request.attempt)
            if state.leg_runner is None:
                raise AttemptSuperseded(request.attempt, state.attempt)
            if request.task_token is None:
                return Change(state)
            return Change(replace(state, leg_task_token=request.task_token))

        appended = await self._log.append(execution_id, decide)
        is_wanted = await self._holds.hold(execution_id, request.attempt)
        cancel_requested = appended.state.cancel_requested_at is not None
        is_paused = appended.state.paused_at is not None
        return LegHeld(cancel_requested=cancel_requested, is_wanted=is_wanted, is_paused=is_paused)

    async def append(self, execution_id: str, request: AppendEvents) -> AppendResult:
        """Add a runner's events to the log, once only.

        Raises:
            InvalidRequest: an event is not a runner's to write.
            PayloadTooLarge: an event belongs into the blob store.
            NotFound: there is no such execution.
            AttemptSuperseded: a newer attempt holds the execution.
            ExecutionEnded: the execution has ended.
            IllegalMove: an event cannot follow what is there.
            DigestMismatch: a blob that came along is not what it is called.
            Unavailable: the disk does not take it.
        """
        if not (request.append_id.isascii() and request.append_id.isprintable()):
            raise InvalidRequest(
                f"append_id {request.append_id!r} has characters that are not printable ASCII"
            )
        new_events = [_check_event(event, request.attempt) for event in request.events]
        if request.blobs:
            await self._check_newest(execution_id, request.attempt)
            await self._blobs.store_all({blob.sha256: blob.content for blob in request.blobs})
        brought = frozenset(blob.sha256 for blob in request.blobs)

        def decide(state: ExecutionState) -> Change:
            _check_open(state)
            _check_attempt(state, request.attempt)
            events = [_with_reason(event, state) for event in new_events]
            return Change(state, events, request.attempt, brought)

        appended = await self._log.append(execution_id, decide, request.append_id)
        return AppendResult(
            last_sequence=appended.last_sequence,
            cancel_requested=appended.state.cancel_requested_at is not None,
            message_sequence=appended.state.message_sequence,
            is_paused=appended.state.paused_at is not None,
        )

    async def publish_live(self, execution_id: str, request: PublishLiveEvents) -> None:
        """Show a runner's live events to whoever watches.

        Raises:
            NotFound: there is no such execution.
            AttemptSuperseded: a newer attempt holds the execution.
            ExecutionEnded: the execution has ended.
        """
        await self._check_newest(execution_id, request.attempt)
        self._broadcast.publish_live(execution_id, request.events)

    async def _check_newest(self, execution_id: str, attempt: int) -> None:
        """See that the attempt has the execution, as far as this server has heard."""
        if self._broadcast.attempt_of(execution_id) != attempt:
            state = await self.load(execution_id)
            _check_open(state)
            _check_attempt(state, attempt)
            self._broadcast.follow_attempt(execution_id, attempt)

    async def move(self, execution_id: str, task_queue: str) -> ExecutionState:
        """Note that the execution's workflow is to run on another task queue.

        Raises:
            NotFound: there is no such execution.
        """

        def decide(state: ExecutionState) -> Change:
            return Change(state if state.phase.is_terminal else replace(state, task_queue=task_queue))

        return (await self._log.append(execution_id, decide)).state

    async def place(self, execution_id: str, leg_task_queue: str | None) -> ExecutionState:
        """Note that the execution's legs are to run on another task queue.

        Raises:
            NotFound: there is no such execution.
        """

        def decide(state: ExecutionState) -> Change:
            changed = replace(state, leg_task_queue=leg_task_queue)
            return Change(state if state.phase.is_terminal else changed)

        return (await self._log.append(execution_id, decide)).state


def _check_open(state: ExecutionState) -> None:
    if state.phase.is_terminal:
        raise ExecutionEnded(state.execution_id, state.phase)


def _check_attempt(state: ExecutionState, attempt: int) -> None:
    if attempt < state.attempt:
        raise AttemptSuperseded(attempt, state.attempt)
    if attempt > state.attempt:
        raise InvalidRequest(f"attempt {attempt} was never granted; the newest is {state.attempt}")


def _check_event(event: Event, attempt: int) -> NewEvent:
    if isinstance(event, _WRITTEN_BY_SERVER):
        raise InvalidRequest(f"event {event.type!r} is written by the server alone")
    if isinstance(event, LegEnded) and event.attempt != attempt:
        raise InvalidRequest(f"event {event.type!r} is of attempt {event.attempt}, the append of {attempt}")
    new_event = NewEvent.of(event)
    # Only then can a payload inside it be over the limit; most events are far below.
    if len(new_event.body) > INLINE_PAYLOAD_MAX_BYTES:
        _check_payloads(event)
    return new_event


def _with_reason(event: NewEvent, state: ExecutionState) -> NewEvent:
    """The runner that ends a cancelled execution is not told why it was cancelled; the log says it."""
    if event.event == ExecutionCancelled() and state.cancel_reason is not None:
        return NewEvent.of(ExecutionCancelled(reason=state.cancel_reason))
    return event


def _check_payloads(event: BaseModel) -> None:
    for name in type(event).model_fields:
        value: object = getattr(event, name)
        if isinstance(value, InlinePayload) and len(_JSON.dump_json(value.value)) > INLINE_PAYLOAD_MAX_BYTES:
            raise PayloadTooLarge(f"field {name!r} of the event", INLINE_PAYLOAD_MAX_BYTES)


def _find_execution(connection: Connection, execution_id: str, caller: Caller | None) -> ExecutionState:
    query = select(executions).where(executions.c.execution_id == execution_id)
    if caller is not None:
        query = query.where(caller.may_see_session(executions.c.session_id))
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("execution", execution_id)
    return ExecutionState.from_row(row)


def _attempt_at(stored: Sequence[StoredEvent], sequence: int) -> int:
    """The attempt that was granted there; 0 where that is none of a leg's."""
    return next((event.attempt or 0 for event in stored if event.sequence == sequence), 0)


def _load_grant(connection: Connection, state: ExecutionState, clock: SteadyClock) -> Grant:
    [opening] = read_events(connection, state.execution_id, limit=1)
    first = EVENT_ADAPTER.validate_json(opening.body)
    assert isinstance(first, ExecutionStarted)
    if state.limits is not None:
        first = first.model_copy(update={"spec": first.spec.model_copy(update={"limits": state.limits})})
    history = find_history(connection, state)
    # Without what came after this grant, which a newer attempt may have written meanwhile.
    left = state.last_sequence - history.after
    stored = read_events(connection, state.execution_id, history.after, limit=left)
    if history.after:
        # No agent may have been given them yet, whatever it has been asked since.
        stored = read_messages(connection, state.execution_id, history.after) + stored
    workspace = find_session(connection, state.session_id).workspace
    takes_snapshots = first.spec.takes_snapshots(workspace)
    return Grant(
        state=state,
        first=first,
        workspace=workspace,
        snapshot=newest_listing(connection, state) if takes_snapshots else None,
        history=history,
        previous_execution_ids=history.previous,
        stored=stored,
        seconds_left=_seconds_left(state, clock.now()),
    )


def _seconds_left(state: ExecutionState, now: datetime) -> float | None:
    return None if state.deadline_at is None else max(0.0, (state.deadline_at - now).total_seconds())
