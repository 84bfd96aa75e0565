"""Makes a session of what was exported elsewhere: a new one of the caller's, all or nothing.

The document comes from anybody. Each log is gone through by the same rules as if it were written here; it
gets new ids, and names only blobs that the caller has brought.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from pydantic import ValidationError
from sqlalchemy import Connection, func, select

from stigmer_contract.api import SessionResource
from stigmer_contract.events import ExecutionStarted, InlinePayload, SnapshotTaken
from stigmer_contract.exported_sessions import (
    MAX_DOCUMENT_BYTES,
    ExportedExecution,
    ExportedSession,
    ImportSession,
)
from stigmer_contract.identifiers import EXECUTION_PREFIX, new_id
from stigmer_contract.manifest_approval import strictest
from stigmer_server.blob_grants import grant_files_to_session, grant_to_session, may_read
from stigmer_server.blobs import BlobStore
from stigmer_server.database import Database
from stigmer_server.errors import CallRefused, InvalidRequest, NotFound, PayloadTooLarge
from stigmer_server.event_log import NewEvent, StoredEvent, insert_log
from stigmer_server.execution_state import ExecutionState, Moment, advance
from stigmer_server.installation import Installation
from stigmer_server.new_executions import head_of
from stigmer_server.owners import Caller
from stigmer_server.policies import check_policy
from stigmer_server.sessions import insert_session
from stigmer_server.tables import executions


class SessionImports:
    """Imports sessions, one at a time: a document takes some memory."""

    def __init__(self, database: Database, blobs: BlobStore, installation: Installation) -> None:
        self._database = database
        self._blobs = blobs
        self._installation = installation
        self._turn = asyncio.Lock()

    async def read(self, request: ImportSession, caller: Caller) -> ExportedSession:
        """The document, looked at by itself.

        Raises:
            NotFound: the caller has not stored it.
            PayloadTooLarge: it is larger than one may be.
            InvalidRequest: it is none.
        """
        sha256 = request.sha256
        if not await self._database.read(lambda connection: may_read(connection, sha256, caller)):
            raise NotFound("blob", sha256)
        file = self._blobs.find(sha256)
        if file.stat().st_size > MAX_DOCUMENT_BYTES:
            raise PayloadTooLarge("the session's document", MAX_DOCUMENT_BYTES)
        async with self._turn:
            content = await asyncio.to_thread(file.read_bytes)
            try:
                return await asyncio.to_thread(ExportedSession.model_validate_json, content)
            except ValidationError as error:
                [first, *_] = error.errors(include_input=False, include_url=False)
                place = ".".join(map(str, first["loc"][:6])) or "it"
                raise InvalidRequest(
                    f"could not import the session: {place}: {first['msg']}",
                    "export it with a version that is no newer than this server",
                ) from error

    async def insert(self, document: ExportedSession, caller: Caller) -> SessionResource:
        """Write the session.

        Raises:
            InvalidRequest: its logs are none, name a blob that the caller has not brought, or an agent that
                the policy of the caller's token excludes.
        """

        def work(connection: Connection) -> SessionResource:
            session = insert_session(connection, caller.owner, None, self._installation.placement_of(None))
            newest = connection.execute(select(func.max(executions.c.execution_id))).scalar()
            for place, exported in enumerate(document.executions, start=1):
                newest = new_id(EXECUTION_PREFIX, after=newest)
                try:
                    state, stored, new_events = self._replay(exported, session, newest, place, caller)
                    self._grant_blobs(connection, new_events, session.session_id, caller)
                except CallRefused as error:
                    raise InvalidRequest(
                        f"could not import the session: execution {place}: {error.detail}", error.hint
                    ) from error
                insert_log(connection, state, stored, new_events)
            return session

        async with self._turn:
            return await self._database.write(work)

    def _replay(
        self,
        exported: ExportedExecution,
        session: SessionResource,
        execution_id: str,
        place: int,
        caller: Caller,
    ) -> tuple[ExecutionState, Sequence[StoredEvent], Sequence[NewEvent]]:
        """The execution as its log says it stands, and the log under its new name."""
        [opening, *rest] = exported.events
        first = opening.event
        if not isinstance(first, ExecutionStarted):
            raise InvalidRequest(f"its log begins with {first.type!r}")
        check_policy(caller.policy, first.spec, None)
        first = first.model_copy(update={"session_id": session.session_id, "compact": False})
        if caller.policy.approve is not None:
            least = strictest(first.approve, caller.policy.approve)
            first = first.model_copy(update={"approve": least})
        now = datetime.now(UTC)
        state = ExecutionState(
            execution_id=execution_id,
            session_id=session.session_id,
            agent_name=first.agent_name,
            model=first.model or first.spec.model,
            input_head=head_of(str(first.input.value)) if isinstance(first.input, InlinePayload) else None,
            created_at=min(opening.recorded_at.astimezone(UTC), now),
            deadline_at=None,
            place=place,
            workflow_id=self._installation.workflow_id(execution_id),
            task_queue=self._installation.task_queue,
            leg_task_queue=session.placement,
            owner=caller.owner,
            token_id=caller.token_id if caller.policy.max_cost_per_day_usd is not None else None,
        )
        for each in rest:
            recorded_at = min(each.recorded_at.astimezone(UTC), now)
            state = advance(state, [each.event], Moment(recorded_at, recorded_at))
        if not state.phase.is_terminal:
            raise InvalidRequest("it has not ended")
        state = replace(state, leg_runner=None, leg_task_token=None, lost_legs=())
        new_events = [NewEvent.of(first), *(NewEvent.of(each.event) for each in rest)]
        stored = [
            StoredEvent(
                sequence, min(each.recorded_at.astimezone(UTC), now), each.attempt, new.event.type, new.body
            )
            for sequence, (each, new) in enumerate(zip(exported.events, new_events, strict=True), start=1)
        ]
        return state, stored, new_events

    def _grant_blobs(
        self, connection: Connection, new_events: Sequence[NewEvent], session_id: str, caller: Caller
    ) -> None:
        for sha256 in sorted({sha256 for new in new_events for sha256 in new.blobs}):
            if not (may_read(connection, sha256, caller) and self._blobs.has(sha256)):
                raise InvalidRequest(f"the blob {sha256} that its log names was not brought along")
            grant_to_session(connection, sha256, session_id)
        files = {sha256 for new in new_events if isinstance(new.event, SnapshotTaken) for sha256 in new.blobs}
        grant_files_to_session(connection, files, session_id)
