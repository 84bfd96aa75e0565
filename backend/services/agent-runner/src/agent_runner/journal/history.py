"""What the model was shown: loaded from the session's stored pieces, and stored on, piece by piece.

A piece holds the exact messages that are new since the piece before, so a session's next execution, and a
later leg, go on from the very same ones. A leg stores one every so many turns or bytes, where messages were
replaced (a compaction), and at the end.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    RetryFeedbackPart,
    ToolReturnPart,
)

from agent_runner.journal.beginnings import begins_with
from agent_runner.journal.bodies import WRITTEN_BY, Bodies
from agent_runner.journal.conversation import messages_of
from agent_runner.server_client import LegClient
from stigmer_contract.api import EarlierLog, LegGrant
from stigmer_contract.events import HistoryStored, Payload, Usage

TURNS_A_PIECE: Final = 20
"""A later leg runs the agent through at most so many recorded turns, some 15 ms each (2026-11)."""
BYTES_A_PIECE: Final = 1024 * 1024
BYTES_A_PART: Final = 16 * 1024 * 1024
"""A piece that is larger is kept in parts: the server takes no blob over 64 MiB."""
READERS: Final = 8
"""How many pieces or logs are read at once."""

_MESSAGES: Final[TypeAdapter[list[ModelMessage]]] = TypeAdapter(list[ModelMessage])
_SAME_INSTRUCTIONS: Final = "\0"
"""Stands in a piece for the instructions of the request before, which mostly never change."""
_OTHER_PART_BYTES: Final = 200


class _Piece(BaseModel):
    """A `HistoryPiece`, its messages read at once."""

    by: str
    messages: list[ModelMessage]


class History:
    """The messages before an execution's next request, and how many of them are stored."""

    def __init__(self, messages: list[ModelMessage], stored: int, turn: int) -> None:
        """Of `messages` the first `stored` are in pieces, and all answers up to `turn` among those."""
        self.messages = messages
        self._stored = messages[:stored]
        self._turn = turn
        self._sized = len(messages)
        self._bytes = 0

    async def store_if_due(
        self,
        bodies: Bodies,
        messages: Sequence[ModelMessage],
        turn: int,
        usage: Usage,
        counters: dict[str, int | str],
        *,
        is_replaced: bool = False,
    ) -> list[HistoryStored]:
        """The next piece before the request that `messages` are, if there is to be one, in one part or more.

        Args:
            bodies: where the piece is kept.
            messages: the whole request; the newest answer in it is that of `turn`.
            turn: of this execution.
            usage: of this execution so far.
            counters: what a later leg needs to count on.
            is_replaced: whether some of the messages are others than before.
        """
        if not is_replaced and len(messages) >= len(self._stored) and not self._is_due(messages, turn):
            return []
        return await self.store(bodies, messages, turn, usage, counters)

    async def store(
        self,
        bodies: Bodies,
        messages: Sequence[ModelMessage],
        turn: int,
        usage: Usage,
        counters: dict[str, int | str],
    ) -> list[HistoryStored]:
        """The next piece, as `store_if_due`, whether it is due or not."""
        begins = begins_with(messages, self._stored)
        new = messages[len(self._stored) :] if begins else messages
        parts = _parts_of(new)
        replaces = not begins or not self._stored
        stored = [
            HistoryStored(
                turn=turn,
                messages=await bodies.store_text(_dump(part)),
                replaces=replaces and part is parts[0],
                more_follows=part is not parts[-1],
                usage=usage,
                counters=counters,
            )
            for part in parts
        ]
        self._stored, self._turn, self._bytes = list(messages), turn, 0
        return stored

    def _is_due(self, messages: Sequence[ModelMessage], turn: int) -> bool:
        self._bytes += sum(map(_size_of, messages[self._sized :]))
        self._sized = len(messages)
        if turn - self._turn < TURNS_A_PIECE and self._bytes < BYTES_A_PIECE:
            return False
        # How often in a row a call was to be corrected is counted by pydantic-ai, in this run only.
        return not _is_correction(messages[-1])


async def load_history(client: LegClient, grant: LegGrant) -> History | None:
    """The messages before the execution's next request; None where this version cannot read the pieces."""
    readers = asyncio.Semaphore(READERS)

    async def load_piece(payload: Payload) -> list[ModelMessage]:
        async with readers:
            return _load(await client.load_text(payload))

    async def load_log(log: EarlierLog) -> list[ModelMessage]:
        async with readers:
            events = await client.list_events(log.execution_id, after=log.after)
            told = [each for each in events if log.until is None or each.sequence <= log.until]
            return await messages_of(told, client.load_payload)

    try:
        pieces = await asyncio.gather(*map(load_piece, grant.history))
    except ValidationError:
        return None
    stored = [message for piece in pieces for message in piece]
    told = await asyncio.gather(*map(load_log, grant.earlier))
    turn = 0 if grant.resumption is None else grant.resumption.turn
    # A fork's first piece holds all, so that it needs nothing of its parent any more.
    kept = 0 if grant.fork is not None and grant.resumption is None else len(stored)
    return History([*stored, *(message for log in told for message in log)], kept, turn)


async def without_pieces(client: LegClient, grant: LegGrant) -> LegGrant:
    """The same grant for a runner that reads what the logs tell in our words instead."""
    own = await client.list_events(grant.execution.execution_id)
    last = grant.events[-1].sequence
    return grant.model_copy(
        update={
            "history": [],
            "earlier": [
                *grant.ancestors,
                *(EarlierLog(execution_id=each, after=0) for each in grant.previous_execution_ids),
            ],
            "resumption": None,
            "events": [event for event in own if event.sequence <= last],
        }
    )


def _parts_of(messages: Sequence[ModelMessage]) -> list[list[ModelMessage]]:
    """The messages in parts of at most about `BYTES_A_PART`; no message is divided."""
    parts: list[list[ModelMessage]] = []
    size = BYTES_A_PART
    for message in messages:
        size += _size_of(message)
        if size > BYTES_A_PART:
            parts.append([])
            size = _size_of(message)
        parts[-1].append(message)
    return parts


def _dump(messages: Sequence[ModelMessage]) -> bytes:
    """The JSON text of a `HistoryPiece`."""
    plain: list[ModelMessage] = []
    before: str | None = None
    for message in messages:
        if isinstance(message, ModelRequest) and message.instructions is not None:
            if message.instructions == before:
                message = replace(message, instructions=_SAME_INSTRUCTIONS)
            else:
                before = message.instructions
        plain.append(message)
    # A None is the default wherever a message has one, but for what a tool returned.
    has_none = any(
        isinstance(part, ToolReturnPart) and part.content is None
        for message in plain
        for part in message.parts
    )
    text = _MESSAGES.dump_json(plain, exclude_none=not has_none, warnings=False)
    return b'{"version":1,"by":"%s","messages":%s}' % (WRITTEN_BY.encode(), text)


def _load(text: bytes) -> list[ModelMessage]:
    """The messages of a piece.

    Raises:
        ValidationError: they are of a version of pydantic-ai that this one does not read.
    """
    messages = _Piece.model_validate_json(text).messages
    before: str | None = None
    for message in messages:
        if isinstance(message, ModelRequest) and message.instructions is not None:
            if message.instructions == _SAME_INSTRUCTIONS:
                message.instructions = before
            else:
                before = message.instructions
    return messages


def _is_correction(message: ModelMessage) -> bool:
    return any(
        isinstance(part, RetryFeedbackPart)
        or (isinstance(part, ToolReturnPart) and part.outcome == "retried")
        for part in message.parts
    )


def _size_of(message: ModelMessage) -> int:
    """About how many bytes a message takes."""
    return sum(map(_size_of_part, (getattr(part, "content", None) for part in message.parts)))


def _size_of_part(content: object) -> int:
    match content:
        case str():
            return len(content)
        case BinaryContent():
            return len(content.data) * 4 // 3
        case list():
            return sum(map(_size_of_part, content))  # pyright: ignore[reportUnknownArgumentType]
        case _:
            return _OTHER_PART_BYTES
