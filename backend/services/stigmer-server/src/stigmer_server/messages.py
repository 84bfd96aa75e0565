"""Messages to executions: put into the log once only, where whatever waits for them is woken."""

import hashlib

from stigmer_contract.api import MessageResource, SendMessage
from stigmer_contract.events import EVENT_ADAPTER, MessageReceived
from stigmer_server.blobs import BlobStore
from stigmer_server.errors import ExecutionEnded, IdempotencyKeyReused, InvalidRequest
from stigmer_server.event_log import Change, EventLog, NewEvent
from stigmer_server.execution_state import ExecutionState
from stigmer_server.idempotency import MAX_KEY_LENGTH, Answer


class Messages:
    """What is said to executions that have not ended."""

    def __init__(self, log: EventLog, blobs: BlobStore) -> None:
        self._log = log
        self._blobs = blobs

    async def send(self, execution_id: str, request: SendMessage, idempotency_key: str | None) -> Answer:
        """Put a message into the execution's log; the same key with the same message does so once.

        Raises:
            InvalidRequest: the key is too long.
            NotFound: there is no such execution.
            ExecutionEnded: nobody would read it.
            IdempotencyKeyReused: the key came with another message.
        """
        message = await self._blobs.wrap_text(request.text)
        new_event = NewEvent.of(MessageReceived(message=message))

        def decide(state: ExecutionState) -> Change:
            if state.phase.is_terminal:
                raise ExecutionEnded(state.execution_id, state.phase)
            return Change(state, [new_event])

        appended = await self._log.append(execution_id, decide, _append_id(idempotency_key))
        if not appended.stored:
            [first] = await self._log.read(execution_id, appended.last_sequence - 1, 1)
            if EVENT_ADAPTER.validate_json(first.body) != new_event.event:
                raise IdempotencyKeyReused
        resource = MessageResource(execution_id=execution_id, sequence=appended.last_sequence)
        return Answer(201, resource.model_dump_json())


def _append_id(idempotency_key: str | None) -> str | None:
    """The log itself remembers the key, for as long as it is kept. No runner can guess it."""
    if idempotency_key is None:
        return None
    if not 0 < len(idempotency_key) <= MAX_KEY_LENGTH:
        raise InvalidRequest(f"an Idempotency-Key has from 1 to {MAX_KEY_LENGTH} characters")
    return hashlib.sha256(f"message\n{idempotency_key}".encode()).hexdigest()
