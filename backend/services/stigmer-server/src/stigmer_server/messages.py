"""Messages to executions: put into the log once only, where whatever waits for them is woken.

Whoever is spoken to has ended already, or ends at that moment: the log decides, in one transaction, which of
both came first. What comes too late goes to the session's execution that has not ended, or starts its next.
"""

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, select

from stigmer_contract.api import CreateExecution, MessageResource, SendMessage
from stigmer_contract.events import (
    EVENT_ADAPTER,
    BlobPayload,
    ExecutionStarted,
    MessageReceived,
    Payload,
)
from stigmer_contract.manifest import AgentManifest, Metadata
from stigmer_server.blob_grants import grant_to_session
from stigmer_server.blobs import BlobStore
from stigmer_server.database import Database
from stigmer_server.errors import ExecutionEnded, IdempotencyKeyReused
from stigmer_server.event_log import Change, EventLog, NewEvent, StoredEvent, read_events
from stigmer_server.execution_state import ExecutionState
from stigmer_server.idempotency import Answer, act_once, append_id, find_answer
from stigmer_server.installation import Installation
from stigmer_server.new_executions import insert_execution
from stigmer_server.owners import Caller
from stigmer_server.sessions import find_session, find_unended
from stigmer_server.tables import events, executions
from stigmer_server.token_reach import check_reach

ROOM_OF_STEP: Final = 1024
"""Bytes. The step that tells when an agent was given a message holds it, and may not be too large itself."""


class Messages:
    """What is said to executions."""

    def __init__(
        self,
        database: Database,
        log: EventLog,
        blobs: BlobStore,
        installation: Installation,
        on_created: Callable[[ExecutionState, StoredEvent], None],
    ) -> None:
        """`on_created` is told of executions that messages start, after the commit, and must not block."""
        self._database = database
        self._log = log
        self._blobs = blobs
        self._installation = installation
        self._on_created = on_created

    async def send(
        self,
        state: ExecutionState,
        request: SendMessage,
        caller: Caller,
        idempotency_key: str | None,
        *,
        check_start: Callable[[ExecutionState], None],
    ) -> Answer:
        """Put a message into an execution's log, or into that of the one that follows where it has ended.

        The caller's same key with the same message does so once. `check_start` refuses what this caller may
        not start once more.

        Raises:
            InvalidRequest: the key is too long.
            NotFound: there is no such execution.
            IdempotencyKeyReused: the key came with another message.
            Forbidden: the policy of the caller's token excludes the execution.
            SecretMissing, Forbidden, FeatureNotYet: the next execution may not begin.
        """
        await check_reach(self._database, caller, state.execution_id, state.session_id)
        message = await self._blobs.wrap_text(request.text, room=ROOM_OF_STEP)
        if isinstance(message, BlobPayload):
            sha256 = message.sha256
            await self._database.write(
                lambda connection: grant_to_session(connection, sha256, state.session_id)
            )
        known_by = append_id("message", caller.owner, idempotency_key)
        while True:
            try:
                return await self._append(state.execution_id, message, known_by)
            except ExecutionEnded:
                check_start(state)
                # Somebody else may start the next one at the same moment: then that is spoken to.
                following = await self._start_next(state, request, message, caller, idempotency_key)
                if isinstance(following, Answer):
                    return following
                await check_reach(self._database, caller, following.execution_id, following.session_id)
                state = following

    async def _append(self, execution_id: str, message: Payload, known_by: str | None) -> Answer:
        new_event = NewEvent.of(MessageReceived(message=message))

        def decide(state: ExecutionState) -> Change:
            if state.phase.is_terminal:
                raise ExecutionEnded(state.execution_id, state.phase)
            return Change(state, [new_event])

        appended = await self._log.append(execution_id, decide, known_by)
        if not appended.stored:
            [first] = await self._log.read(execution_id, appended.last_sequence - 1, 1)
            if EVENT_ADAPTER.validate_json(first.body) != new_event.event:
                raise IdempotencyKeyReused
        resource = MessageResource(execution_id=execution_id, sequence=appended.last_sequence)
        return Answer(201, resource.model_dump_json())

    async def _start_next(
        self,
        ended: ExecutionState,
        request: SendMessage,
        message: Payload,
        caller: Caller,
        idempotency_key: str | None,
    ) -> "Answer | ExecutionState":
        """The session's next execution, by the same agent; one that has not ended, if there is one."""
        created: list[tuple[ExecutionState, StoredEvent]] = []
        known_by = append_id("message", caller.owner, idempotency_key)
        # The same key may be used for another session's execution.
        scope = f"messages {ended.session_id}"

        def work(connection: Connection) -> "Answer | ExecutionState":
            find_session(connection, ended.session_id, caller, lock=True)
            # Before anything else: what this very message has started may not have ended yet.
            started = find_answer(connection, caller.owner, scope, idempotency_key, request)
            told = started or _find_told(connection, ended.session_id, known_by)
            if told is not None:
                return told
            unended = find_unended(connection, ended.session_id)
            wanted = _following(connection, ended, request.text)

            def act() -> MessageResource:
                state, first = insert_execution(connection, wanted, caller, message, self._installation)
                created.append((state, first))
                return MessageResource(execution_id=state.execution_id, sequence=1, starts_execution=True)

            if unended is not None:
                return unended
            return act_once(connection, caller.owner, scope, idempotency_key, request, act)[0]

        answer = await self._database.write(work)
        for state, first in created:
            self._on_created(state, first)
        return answer


def _following(connection: Connection, ended: ExecutionState, text: str) -> CreateExecution:
    """What starts an execution by the same agent, as it was."""
    [opening] = read_events(connection, ended.execution_id, limit=1)
    first = EVENT_ADAPTER.validate_json(opening.body)
    assert isinstance(first, ExecutionStarted)
    manifest = AgentManifest(
        api_version="agentic.stigmer.ai/v1",
        kind="Agent",
        metadata=Metadata(name=first.agent_name),
        spec=first.spec,
    )
    return CreateExecution(
        manifest=manifest,
        input=text,
        session_id=ended.session_id,
        model=first.model,
        approve=first.approve,
    )


def _find_told(connection: Connection, session_id: str, known_by: str | None) -> ExecutionState | None:
    """The execution of the session that got the message of this key already."""
    if known_by is None:
        return None
    query = (
        select(executions)
        .join(events, events.c.execution_id == executions.c.execution_id)
        .where(executions.c.session_id == session_id, events.c.append_id == known_by)
    )
    row = connection.execute(query.limit(1)).first()
    return None if row is None else ExecutionState.from_row(row)
