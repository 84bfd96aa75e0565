"""Forks: new executions that go on behind a step of another one, in a session and with files of their own.

A fork's history is its parent's up to the turn of that step; the turn itself, as far as it was done by then,
is copied into the fork's log, where its runner finds it as it would find what a runner before it has done. So
nothing is asked, run or paid for again.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias, TypeGuard

from pydantic import BaseModel, JsonValue, TypeAdapter
from sqlalchemy import Connection, select

from stigmer_contract.api import (
    CreateExecution,
    ExecutionResource,
    ForkExecution,
    RewindExecution,
    SnapshotResource,
)
from stigmer_contract.conversation import ModelAnswer
from stigmer_contract.events import (
    AnyEvent,
    Event,
    ExecutionStarted,
    ForkOrigin,
    InlinePayload,
    MessageReceived,
    ModelResponded,
    Payload,
    RecordedEvent,
    ToolFinished,
    ToolStarted,
    Usage,
)
from stigmer_contract.manifest import AgentManifest, Metadata
from stigmer_contract.steps import Step, number_steps
from stigmer_server.blob_grants import (
    grant_files_to_session,
    grant_to_session,
    is_of_files,
    session_holds,
)
from stigmer_server.blobs import BlobStore
from stigmer_server.database import Database, insert_where_absent
from stigmer_server.errors import InvalidRequest
from stigmer_server.event_log import NewEvent, StoredEvent, insert_further_events, read_events
from stigmer_server.execution_state import ExecutionState
from stigmer_server.executions import Executions
from stigmer_server.fork_answers import answered_otherwise
from stigmer_server.idempotency import Answer, act_once
from stigmer_server.installation import Installation
from stigmer_server.log_formats import LogFormats
from stigmer_server.new_executions import check_request, insert_execution
from stigmer_server.owners import Caller
from stigmer_server.snapshots import FilesAt, files_at
from stigmer_server.tables import blob_references, executions

_JSON: Final[TypeAdapter[JsonValue]] = TypeAdapter(JsonValue)
_ROOM: Final = 16
_Begun: TypeAlias = tuple[ExecutionState, StoredEvent, Sequence[StoredEvent]]


@dataclass(frozen=True)
class _Parent:
    """The execution that is forked."""

    state: ExecutionState
    first: ExecutionStarted
    events: Sequence[RecordedEvent]
    """Its whole log."""


@dataclass(frozen=True)
class _Cut:
    """Where the fork leaves it."""

    step: int
    sequence: int
    steps_before: int
    files_until: int
    """Where in the log the step's end stands."""
    copied: Sequence[Event]
    """What of the step's turn was done by then."""


class Forks:
    """Begins forks."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        formats: LogFormats,
        installation: Installation,
        executions_: Executions,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._formats = formats
        self._installation = installation
        self._executions = executions_

    async def fork(
        self, state: ExecutionState, request: ForkExecution, caller: Caller, idempotency_key: str | None
    ) -> Answer:
        """Begin an execution that goes on behind a step of this one.

        Raises:
            InvalidRequest: there is no such step, or nothing comes after it.
            NotFound, SecretMissing, FeatureNotYet, Forbidden: as `Executions.create`.
            IdempotencyKeyReused: the key came with another request.
        """
        parent = await self._read(state)
        if request.prompt is not None and request.at:
            raise InvalidRequest("prompt is for a fork at 0; message says something at a later step")
        if request.answers and not request.at:
            raise InvalidRequest("answers are for calls, and step 0 is before all of them")
        cut = await self._cut(parent, request.at, goes_on=request.message is None, answers=request.answers)
        payload = parent.first.input
        if request.prompt is not None:
            payload = await self._blobs.wrap_text(request.prompt, room=_ROOM)
        said = list[Event]()
        if request.message is not None:
            message = await self._blobs.wrap_text(request.message, room=_ROOM)
            said.append(MessageReceived(message=message))
        wanted = _wanted(parent, request)
        check_request(wanted)

        def act(connection: Connection) -> _Begun:
            files = files_at(connection, parent.state, parent.events, cut.files_until)
            begun, first = insert_execution(
                connection,
                wanted,
                caller,
                payload,
                self._installation,
                # Behind a later step the model was shown them already, and they are among the files.
                () if cut.step else parent.first.attachments,
                _origin(parent, cut, files),
            )
            _share_blobs(connection, parent.state, begun)
            further = [NewEvent.of(event, is_servers=True) for event in (*cut.copied, *said)]
            for sha256 in {each for new in further for each in new.blobs}:
                grant_to_session(connection, sha256, begun.session_id)
            begun, stored = insert_further_events(connection, begun, further, self._installation.steady_clock)
            return begun, first, stored

        return await self._begin(act, f"forks of {state.execution_id}", request, caller, idempotency_key)

    async def rewind(
        self, state: ExecutionState, request: RewindExecution, caller: Caller, idempotency_key: str | None
    ) -> Answer:
        """Begin an execution that brings the session of this one back to a step of it, and asks no model.

        Raises:
            InvalidRequest: there is no such step.
            SessionBusy: an execution of the session has not ended.
            NotFound, Forbidden: as `Executions.create`.
            IdempotencyKeyReused: the key came with another request.
        """
        parent = await self._read(state)
        cut = await self._cut(parent, request.at, goes_on=False)
        wanted = _wanted(parent, ForkExecution(at=request.at)).model_copy(
            update={
                "session_id": state.session_id,
                "input": f"rewind to step {request.at} of {state.execution_id}",
            }
        )

        def act(connection: Connection) -> _Begun:
            files = files_at(connection, parent.state, parent.events, cut.files_until)
            origin = _origin(parent, cut, files).model_copy(update={"in_place": True})
            said = InlinePayload(value=wanted.input)
            begun, first = insert_execution(connection, wanted, caller, said, self._installation, fork=origin)
            further = [NewEvent.of(event, is_servers=True) for event in cut.copied]
            begun, stored = insert_further_events(connection, begun, further, self._installation.steady_clock)
            return begun, first, stored

        return await self._begin(act, f"rewinds of {state.execution_id}", request, caller, idempotency_key)

    async def _begin(
        self,
        act: Callable[[Connection], _Begun],
        scope: str,
        request: BaseModel,
        caller: Caller,
        idempotency_key: str | None,
    ) -> Answer:
        """Begin an execution once for each key, and announce it."""
        created: list[_Begun] = []

        def work(connection: Connection) -> Answer:
            def begin() -> ExecutionResource:
                created.append(act(connection))
                return created[-1][0].to_resource()

            return act_once(connection, caller.owner, scope, idempotency_key, request, begin)[0]

        answer = await self._database.write(work)
        for begun, first, further in created:
            self._executions.announce(begun, first, *further)
        return answer

    async def find_snapshot(self, state: ExecutionState, at: int | None) -> SnapshotResource:
        """The files as they were at a step; None: at the newest.

        Raises:
            InvalidRequest: there is no such step.
        """
        parent = await self._read(state)
        steps = number_steps(parent.events)
        newest = steps[-1].number if steps else 0
        until = next((each.sequence for each in steps if each.number == (newest if at is None else at)), None)
        if at is None:
            at = newest
            if parent.first.fork is not None and parent.first.fork.in_place:
                until = state.last_sequence
        if until is None and at:
            _refuse_step(at, steps, "`stigmer executions get` shows them with their numbers")

        def look(connection: Connection) -> FilesAt:
            return files_at(connection, state, parent.events, until or 0)

        files = await self._database.read(look)
        return SnapshotResource(step=at, listing=files.listing, none_because=files.none_because)

    async def _read(self, state: ExecutionState) -> _Parent:
        stored = await self._database.read(lambda connection: read_events(connection, state.execution_id))
        newest = await self._formats.newest(state.execution_id, stored)
        recorded = [RecordedEvent.model_validate_json(each.to_json()) for each in newest]
        first = recorded[0].event
        assert isinstance(first, ExecutionStarted)
        return _Parent(state, first, recorded)

    async def _cut(
        self, parent: _Parent, at: int, *, goes_on: bool, answers: Mapping[str, str] | None = None
    ) -> _Cut:
        """`goes_on`: whether something has to come after the step by itself; `answers`: what calls gave."""
        steps = number_steps(parent.events)
        origin = parent.first.fork
        if at == 0:
            if origin is not None and (origin.step or origin.in_place):
                what = "rewind" if origin.in_place else "fork"
                _refuse_step(
                    at, steps, f"it is a {what} itself; name {origin.execution_id} for an earlier step"
                )
            return _Cut(0, 0, 0, 0, ())
        step = next((each for each in steps if each.number == at), None)
        if step is None:
            _refuse_step(at, steps, "`stigmer executions get` shows them with their numbers")
        answered = next(
            each
            for each in parent.events
            if isinstance(event := each.event, ModelResponded)
            and not event.agent_path
            and event.turn == step.turn
        )
        copied = [
            _as_first_turn(each.event)
            for each in parent.events
            if each.sequence <= step.sequence and _belongs_to(each.event, step, parent.events)
        ]
        assert isinstance(answered.event, ModelResponded)
        answer = ModelAnswer.model_validate(await self._load(answered.event.response))
        if answers:
            known = [each.event for each in parent.events if _is_of_turn(each.event, step)]
            copied = await answered_otherwise(copied, answer, known, answers, self._blobs)
        if goes_on and not answer.tool_calls:
            raise InvalidRequest(
                f"nothing comes after step {step.number}: it is the final answer",
                "say something there with a message, or name an earlier step",
            )
        before = sum(each.sequence < answered.sequence for each in steps)
        offset = 0 if origin is None else origin.steps_before
        return _Cut(step.number, answered.sequence - 1, offset + before, step.sequence, copied)

    async def _load(self, payload: Payload) -> JsonValue:
        if isinstance(payload, InlinePayload):
            return payload.value
        file = self._blobs.find(payload.sha256)
        return _JSON.validate_json(await asyncio.to_thread(file.read_bytes))


def _refuse_step(at: int, steps: Sequence[Step], hint: str) -> NoReturn:
    if not steps:
        raise InvalidRequest(f"there is no step {at}: it has none", hint)
    raise InvalidRequest(
        f"there is no step {at}: the steps are {steps[0].number} to {steps[-1].number}", hint
    )


def _belongs_to(event: object, step: Step, events: Sequence[RecordedEvent]) -> bool:
    """Whether an event is of the step's turn, and of something that was done when the step had ended."""
    match event:
        case ModelResponded(agent_path="", turn=step.turn) | ToolFinished(agent_path="", turn=step.turn):
            return True
        case ToolStarted(agent_path="", turn=step.turn):
            return any(
                isinstance(other := each.event, ToolFinished)
                and each.sequence <= step.sequence
                and (other.agent_path, other.turn, other.call_id, other.nth)
                == (event.agent_path, event.turn, event.call_id, event.nth)
                for each in events
            )
        case _:
            return False


def _is_of_turn(event: AnyEvent, step: Step) -> TypeGuard[Event]:
    """Whether an event is a call's of the step's turn, by the execution's own agent."""
    return isinstance(event, ToolStarted | ToolFinished) and (event.agent_path, event.turn) == ("", step.turn)


def _as_first_turn(event: object) -> Event:
    """The event as a fork has it: of its first turn, and paid for by its parent."""
    match event:
        case ModelResponded():
            # What was asked is not compared: the fork may ask otherwise, and this answer holds all the same.
            return event.model_copy(update={"turn": 1, "nth": 1, "usage": Usage(), "asked": None})
        case ToolStarted() | ToolFinished():
            return event.model_copy(update={"turn": 1})
        case _:
            raise AssertionError(f"{event!r} is no part of a turn")


def _wanted(parent: _Parent, request: ForkExecution) -> CreateExecution:
    """The fork as a new execution."""
    first = parent.first
    is_other = request.agent is not None or request.manifest is not None
    same = None
    if not is_other:
        same = AgentManifest.model_construct(
            api_version="agentic.stigmer.ai/v1",
            kind="Agent",
            metadata=Metadata.model_construct(name=first.agent_name),
            spec=first.spec,
        )
    return CreateExecution.model_construct(
        agent=request.agent,
        manifest=request.manifest or same,
        input=request.prompt or parent.state.input_head or "-",
        session_id=None,
        workspace=None,
        model=request.model or (None if is_other else first.model),
        approve=first.approve,
        snapshots=None,
    )


def _origin(parent: _Parent, cut: _Cut, files: FilesAt) -> ForkOrigin:
    return ForkOrigin(
        execution_id=parent.state.execution_id,
        step=cut.step,
        sequence=cut.sequence,
        steps_before=cut.steps_before,
        snapshot=files.listing,
        no_files_because=files.none_because,
    )


def _share_blobs(connection: Connection, parent: ExecutionState, fork: ExecutionState) -> None:
    """Let a fork read what its parent's session has, and keep it where that is deleted."""
    named = (
        select(blob_references.c.sha256)
        .join(executions, executions.c.execution_id == blob_references.c.execution_id)
        .where(executions.c.session_id == parent.session_id, executions.c.place <= parent.place)
        .distinct()
    )
    for sha256 in list(connection.execute(named).scalars()):
        if session_holds(connection, sha256, parent.session_id):
            row = {"execution_id": fork.execution_id, "sha256": sha256}
            insert_where_absent(connection, blob_references, row)
            if is_of_files(connection, sha256, parent.session_id):
                grant_files_to_session(connection, [sha256], fork.session_id)
            else:
                grant_to_session(connection, sha256, fork.session_id)
