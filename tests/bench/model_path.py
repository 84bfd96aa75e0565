"""What asking a model costs the runner's processor: writing a request down, and reading an answer."""

import asyncio
import statistics
import time
from collections.abc import Callable

import httpx2
from figures import Bound, Table
from pydantic_ai.messages import (
    InstructionPart,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings

from agent_runner.models.answer_builder import AnswerBuilder, show_nothing
from agent_runner.models.anthropic_models import anthropic_model
from agent_runner.models.asking import AsksDirectly, Endpoint, encode_body
from agent_runner.models.event_stream import EndOfStream, EventStream, UnreadableData
from agent_runner.models.openai_models import compatible_model, openai_model
from model_wire_formats import Answer, WireFormat, encode_stream

TURNS = (10, 100, 500)
PIECES = 1000
PARAMETERS = ModelRequestParameters(instruction_parts=[InstructionPart("Work.")])
"""As an agent asks, which has instructions."""
_WIRES = {
    "Chat Completions": (compatible_model, WireFormat.CHAT),
    "Responses": (openai_model, WireFormat.RESPONSES),
    "Messages": (anthropic_model, WireFormat.MESSAGES),
}


def bench_model_path(table: Table) -> None:
    """Each wire format, at conversations of so many turns."""
    asyncio.run(_bench(table))


async def _bench(table: Table) -> None:
    async with httpx2.AsyncClient() as client:
        endpoint = Endpoint("http://localhost/v1", {}, client)
        for name, (make, wire_format) in _WIRES.items():
            model = make(
                "claude-sonnet-5" if wire_format is WireFormat.MESSAGES else "gpt-5", endpoint=endpoint
            )
            assert isinstance(model, AsksDirectly)
            written = [await _writing_milliseconds(model, turns) for turns in TURNS]
            table.add(
                f"{name}: a request written down at {', '.join(map(str, TURNS))} turns",
                ", ".join(f"{each:.1f}" for each in written) + " ms",
                written[-1],
                Bound(25, "<= 25 ms at 500 turns"),
            )
            reading = _reading_milliseconds(model, wire_format)
            table.add(f"{name}: an answer of {PIECES} pieces read", f"{reading:.1f} ms")


async def _writing_milliseconds(model: Model, turns: int) -> float:
    """Behind the turn before, as a leg has it."""
    spent: list[float] = []
    for _ in range(5):
        messages = conversation(turns)
        await _write(model, messages[:-2])
        started = time.process_time()
        await _write(model, messages)
        spent.append((time.process_time() - started) * 1000)
    return statistics.median(spent)


async def _write(model: Model, messages: list[ModelMessage]) -> None:
    assert isinstance(model, AsksDirectly)
    prepared = model.as_taken_back(model.prepare_messages(messages, PARAMETERS))
    body, _ = await model.body_of(prepared, ModelSettings(), PARAMETERS)
    encode_body(body)


def _reading_milliseconds(model: AsksDirectly, wire_format: WireFormat) -> float:
    answer = Answer("word " * PIECES, "", [], 10, 10, "m", "a")
    pieces = encode_stream(wire_format, answer)
    return statistics.median(_milliseconds(lambda: _read(model, pieces)) for _ in range(5))


def _read(model: AsksDirectly, pieces: list[bytes]) -> None:
    reader, stream = model.reader(AnswerBuilder(frozenset(), show_nothing)), EventStream()
    for piece in pieces:
        for record in stream.feed(piece):
            if not isinstance(record, EndOfStream | UnreadableData):
                reader.take(record)
    reader.finish()


def _milliseconds(do: Callable[[], None]) -> float:
    started = time.process_time()
    do()
    return (time.process_time() - started) * 1000


def conversation(turns: int) -> list[ModelMessage]:
    """A prompt, and so many calls with their results."""
    messages: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart("go")])]
    for turn in range(turns):
        call_id = f"call_{turn}"
        messages.append(
            ModelResponse(parts=[ToolCallPart("write_file", '{"path": "a", "content": "b"}', call_id)])
        )
        messages.append(ModelRequest(parts=[ToolReturnPart("write_file", "written", call_id)]))
    return messages
