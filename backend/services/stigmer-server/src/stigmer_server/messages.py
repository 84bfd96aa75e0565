"""Messages to executions: put into the log once only, where whatever waits for them is woken."""

from stigmer_contract.api import MessageResource, SendMessage
from stigmer_contract.events import EVENT_ADAPTER, BlobPayload, MessageReceived
from stigmer_server.blob_grants import grant_to_session
from stigmer_server.blobs import BlobStore
from stigmer_server.database import Database
from stigmer_server.errors import ExecutionEnded, IdempotencyKeyReused
from stigmer_server.event_log import Change, EventLog, NewEvent
from stigmer_server.execution_state import ExecutionState
from stigmer_server.idempotency import Answer, append_id
from stigmer_server.owners import Caller


class Messages:
    """What is said to executions that have not ended."""

    def __init__(self, database: Database, log: EventLog, blobs: BlobStore) -> None:
        self._database = database
        self._log = log
        self._blobs = blobs

    async def send(
        self, state: ExecutionState, request: SendMessage, caller: Caller, idempotency_key: str | None
    ) -> Answer:
        """Put a message into an execution's log; the caller's same key with the same message does so once.

        Raises:
            InvalidRequest: the key is too long.
            NotFound: there is no such execution.
            ExecutionEnded: nobody would read it.
            IdempotencyKeyReused: the key came with another message.
        """
        message = await self._blobs.wrap_text(request.text)
        new_event = NewEvent.of(MessageReceived(message=message))
        execution_id = state.execution_id
        if isinstance(message, BlobPayload):
            sha256 = message.sha256
            await self._database.write(
                lambda connection: grant_to_session(connection, sha256, state.session_id)
            )

        def decide(state: ExecutionState) -> Change:
            if state.phase.is_terminal:
                raise ExecutionEnded(state.execution_id, state.phase)
            return Change(state, [new_event])

        appended = await self._log.append(
            execution_id, decide, append_id("message", caller.owner, idempotency_key)
        )
        if not appended.stored:
            [first] = await self._log.read(execution_id, appended.last_sequence - 1, 1)
            if EVENT_ADAPTER.validate_json(first.body) != new_event.event:
                raise IdempotencyKeyReused
        resource = MessageResource(execution_id=execution_id, sequence=appended.last_sequence)
        return Answer(201, resource.model_dump_json())
