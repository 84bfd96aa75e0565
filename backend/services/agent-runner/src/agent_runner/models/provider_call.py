"""Asks a provider over HTTP, and reads its answer to the end, whatever the wire format.

Raises `ModelRequestFailed` for all that can go wrong on the way. Asks nothing twice.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import httpx2

from agent_runner.models.answer_builder import AnswerBuilder
from agent_runner.models.event_stream import (
    EndOfStream,
    EventStream,
    JsonObject,
    Record,
    UnreadableData,
    parse_json,
)
from agent_runner.models.model_faults import (
    ModelRequestFailed,
    fault_of_error,
    fault_of_response,
    fault_of_transport,
    odd_answer,
    wrong_server,
)
from agent_runner.models.provider_errors import error_in

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
MAX_ERROR_BYTES: Final = 256 * 1024
LINGER_SECONDS: Final = 5.0
"""How long the rest of a stream is waited for once the answer has ended: it holds the usage, or nothing."""

GOODBYE_SECONDS: Final = 0.1
"""How long the end of the body is waited for behind `[DONE]`; without it the connection is lost."""

CONNECT_TIMEOUT_SECONDS: Final = 15.0
_TIMEOUT: Final = httpx2.Timeout(None, connect=CONNECT_TIMEOUT_SECONDS)


@dataclass(frozen=True)
class ProviderRequest:
    """One request for an answer."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class AnswerReader(ABC):
    """Takes the records of one answer, in the words of one wire format."""

    def __init__(self, model: str, builder: AnswerBuilder) -> None:
        self.model = model
        """As the provider calls it."""
        self.builder = builder
        self.is_over = False
        """Whether the stream said that nothing will come."""
        self.ended_too_early = False
        """Whether more came behind a word for the end, which some servers say with each piece."""

    @abstractmethod
    def take(self, record: JsonObject) -> None:
        """Take in the next record.

        Raises:
            ModelRequestFailed: it says that there will be no answer.
        """

    def finish(self) -> None:
        """Put what was read into the builder; nothing more will come."""
        self.builder.close()

    @property
    def has_ended(self) -> bool:
        """Whether the answer is whole, though more about it may come."""
        return self.is_over or (self.builder.reason is not None and not self.ended_too_early)

    def refuse_error(self, record: JsonObject) -> None:
        """Raise what the record says went wrong, if it does."""
        error = error_in(record)
        if error is not None:
            raise ModelRequestFailed(fault_of_error(self.model, error))


async def read_answer(
    client: httpx2.AsyncClient,
    request: ProviderRequest,
    reader: AnswerReader,
    on_progress: Callable[[], None],
) -> None:
    """Ask, and give all of the answer to the reader.

    How long it may take, or be silent, is for the caller to say: `on_progress` tells of each piece.

    Raises:
        ModelRequestFailed: the provider refused, failed, or did not answer to the end.
    """
    try:
        async with client.stream(
            "POST",
            request.url,
            content=request.body,
            headers=request.headers,
            follow_redirects=False,
            timeout=_TIMEOUT,
        ) as response:
            if response.status_code >= 300:
                raise await _refusal(response, reader.model)
            await _read_body(response, reader, on_progress)
    except (httpx2.RequestError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
        if reader.has_ended:
            return  # it is all here; only the goodbye was not
        raise ModelRequestFailed(fault_of_transport(reader.model, error)) from error
    except UnicodeError as error:
        # A header or a host name in letters that HTTP does not have.
        raise ModelRequestFailed(fault_of_transport(reader.model, httpx2.LocalProtocolError(""))) from error


async def _refusal(response: httpx2.Response, model: str) -> ModelRequestFailed:
    content = bytearray()
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) > MAX_ERROR_BYTES:
            break
    text = bytes(content).decode(errors="replace")
    headers = {name.lower(): value for name, value in response.headers.items()}
    return ModelRequestFailed(fault_of_response(model, response.status_code, headers, parse_json(text), text))


async def _read_body(
    response: httpx2.Response, reader: AnswerReader, on_progress: Callable[[], None]
) -> None:
    stream, size = EventStream(), 0
    pieces = aiter(response.aiter_bytes())
    while True:
        try:
            if reader.has_ended:
                async with asyncio.timeout(GOODBYE_SECONDS if reader.is_over else LINGER_SECONDS):
                    piece = await anext(pieces)
            else:
                piece = await anext(pieces)
        except StopAsyncIteration:
            break
        except TimeoutError:
            return
        if reader.is_over:
            continue
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            problem = f"its answer is longer than {MAX_ANSWER_BYTES} bytes"
            raise ModelRequestFailed(odd_answer(reader.model, problem))
        before = reader.builder.progress
        _take_all(stream.feed(piece), reader)
        if reader.builder.progress != before:
            on_progress()
    if not reader.is_over:
        _take_all(stream.close(), reader)
    reader.ended_too_early = False
    _check_end(reader, stream, size, response.headers.get("content-type", ""))


def _take_all(records: list[Record], reader: AnswerReader) -> None:
    for record in records:
        if reader.is_over:
            return
        if isinstance(record, EndOfStream):
            reader.is_over = True
        elif isinstance(record, UnreadableData):
            if not reader.has_ended:
                problem = f"a piece of its answer is no JSON: {record.text[:80]}"
                raise ModelRequestFailed(odd_answer(reader.model, problem))
        else:
            had_ended, before = reader.has_ended, reader.builder.characters
            reader.take(record)
            reader.ended_too_early |= had_ended and reader.builder.characters > before


def _check_end(reader: AnswerReader, stream: EventStream, size: int, content_type: str) -> None:
    if reader.has_ended:
        return
    plain = "\n".join(stream.plain).strip()
    if plain and reader.builder.is_empty:
        if plain.startswith("<") or "html" in content_type:
            raise ModelRequestFailed(wrong_server(reader.model, "the server answered with a web page"))
        raise ModelRequestFailed(wrong_server(reader.model, f"the server answered with no JSON: {plain}"))
    if not size:
        raise ModelRequestFailed(odd_answer(reader.model, "its answer is empty"))
    raise ModelRequestFailed(odd_answer(reader.model, "its answer broke off before its end"))
