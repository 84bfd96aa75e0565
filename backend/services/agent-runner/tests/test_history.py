"""What a model was shown is stored in pieces, and comes back as it was."""

from typing import Any

import pytest
from pydantic import JsonValue
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from agent_runner.journal.bodies import Bodies
from agent_runner.journal.history import BYTES_A_PART, TURNS_A_PIECE, History, load_history, without_pieces
from stigmer_contract.api import LegGrant
from stigmer_contract.events import HistoryStored, InlinePayload, Payload, Usage

PICTURE = BinaryContent(b"\x89PNG", media_type="image/png")


class Memory:
    """Keeps payloads inline, whatever their size."""

    async def store_payload(self, value: JsonValue) -> Payload:
        return InlinePayload(value=value)

    async def load_payload(self, payload: Payload) -> JsonValue:
        assert isinstance(payload, InlinePayload)
        return payload.value

    async def store_text(self, text: bytes) -> Payload:
        return InlinePayload.model_validate_json(b'{"value":%s}' % text)

    async def load_text(self, payload: Payload) -> bytes:
        return payload.model_dump_json(include={"value"}).encode()[len('{"value":') : -1]


def prompt(text: str = "Go.") -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(text)], instructions="Work.")


def turn(number: int, content: Any = "done", outcome: Any = "success") -> list[ModelMessage]:
    call = ToolCallPart("look", '{"a": 1}', f"c{number}")
    told = ToolReturnPart("look", content, f"c{number}", outcome=outcome)
    return [ModelResponse(parts=[call]), ModelRequest(parts=[told], instructions="Work.")]


async def store_if_due(history: History, messages: list[ModelMessage], turn: int) -> HistoryStored | None:
    parts = await history.store_if_due(Bodies(Memory()), messages, turn, Usage(), {})
    assert len(parts) <= 1
    return parts[0] if parts else None


def grant_with(pieces: list[HistoryStored]) -> LegGrant:
    return LegGrant.model_construct(history=[piece.messages for piece in pieces], earlier=[], resumption=None)


async def load(pieces: list[HistoryStored]) -> History | None:
    return await load_history(Memory(), grant_with(pieces))  # pyright: ignore[reportArgumentType]


async def test_each_piece_holds_only_what_is_new_and_all_together_what_was_shown() -> None:
    history = History([], 0, 0)
    messages: list[ModelMessage] = [prompt()]
    pieces: list[HistoryStored] = []
    for number in range(1, 3 * TURNS_A_PIECE):
        messages += turn(number, {"n": number, "nothing": None})
        piece = await store_if_due(history, messages, number)
        if piece is not None:
            pieces.append(piece)

    loaded = await load(pieces)

    assert [piece.turn for piece in pieces] == [TURNS_A_PIECE, 2 * TURNS_A_PIECE]
    assert [piece.replaces for piece in pieces] == [True, False]
    assert loaded is not None
    assert loaded.messages == messages[: 1 + 2 * 2 * TURNS_A_PIECE]


async def test_pictures_and_nothing_at_all_come_back_as_they_were() -> None:
    messages = [prompt(), *turn(1, ["Here:", PICTURE]), *turn(2, None)]

    [piece] = await History([], 0, 0).store(Bodies(Memory()), messages, 2, Usage(), {})
    loaded = await load([piece])

    assert loaded is not None
    [_, _, told, _, nothing] = loaded.messages
    [part] = told.parts
    assert isinstance(part, ToolReturnPart)
    content: Any = part.content
    assert (content[0], content[1].data, content[1].media_type) == ("Here:", PICTURE.data, "image/png")
    assert nothing == messages[-1]


async def test_many_bytes_make_a_piece_before_many_turns_do() -> None:
    messages = [prompt(), *turn(1, "x" * 2_000_000)]

    piece = await store_if_due(History([], 0, 0), messages, 1)

    assert piece is not None
    assert piece.turn == 1


async def test_a_piece_waits_until_no_call_is_to_be_corrected() -> None:
    history = History([], 0, 0)
    messages = [prompt(), *turn(1, "x" * 2_000_000), *turn(2, "no such path", "retried")]

    assert await store_if_due(history, messages, 2) is None
    assert await store_if_due(history, [*messages, *turn(3)], 3) is not None


async def test_replaced_messages_begin_the_history_anew() -> None:
    history = History([], 0, 0)
    messages = [prompt(), *turn(1), *turn(2)]
    [first] = await history.store(Bodies(Memory()), messages, 2, Usage(), {})
    compacted = [prompt("What was done so far: two things."), *turn(3)]

    second = await store_if_due(history, compacted, 3)

    assert first.replaces
    assert second is not None
    assert second.replaces
    loaded = await load([second])
    assert loaded is not None
    assert loaded.messages == compacted


async def test_a_piece_that_is_too_large_for_one_event_is_stored_in_parts() -> None:
    messages = [prompt(), *turn(1, "x" * BYTES_A_PART), *turn(2, "y" * BYTES_A_PART), *turn(3)]

    parts = await History([], 0, 0).store(Bodies(Memory()), messages, 3, Usage(), {})

    first, *middle, last = parts
    assert (first.replaces, first.more_follows) == (True, True)
    assert {(part.replaces, part.more_follows) for part in middle} == {(False, True)}
    assert (last.replaces, last.more_follows) == (False, False)
    loaded = await load(parts)
    assert loaded is not None
    assert loaded.messages == messages


async def test_nothing_new_makes_no_piece() -> None:
    messages = [prompt(), ModelResponse(parts=[TextPart("Fine.")])]
    history = History([], 0, 0)

    await history.store(Bodies(Memory()), messages, 1, Usage(), {})

    assert await history.store(Bodies(Memory()), messages, 1, Usage(), {}) == []


@pytest.mark.parametrize(
    "message", [{"kind": "hologram"}, {"kind": "request", "parts": [{"part_kind": "x"}]}]
)
async def test_pieces_that_this_version_does_not_read_are_told_from_empty_ones(message: JsonValue) -> None:
    value: JsonValue = {"version": 1, "by": "pydantic-ai 99", "messages": [message]}
    piece = HistoryStored(turn=1, messages=InlinePayload(value=value), replaces=True, usage=Usage())

    assert await load([piece]) is None
    assert await load([]) is not None
    assert without_pieces is not None
