"""A language model that says what a script says, over real HTTP, in OpenAI's and Anthropic's wire formats.

The answer follows from the conversation in the request alone, so retries, restarts and several clients
all get the right one; only the counting and the faults have state. A prompt that holds
`[conversation KEY]` makes KEY the conversation under which requests are counted.

In a test: `with ModelServer(ScriptedModel([...])) as server`. As a process, for benches:
`python model_server.py --port 0 --script FILE`, where FILE is a `ScriptedModel` as JSON; it prints its
address, answers `GET /stats`, and takes `POST /release`.
"""

import argparse
import asyncio
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import TypeAdapter

from model_wire_formats import (
    Answer,
    Call,
    Question,
    WireFormat,
    encode_answer,
    encode_error,
    encode_stream,
    read_question,
)

VALID_KEY = "test-key"
WAIT_SECONDS = 60.0
SIGN_OF_LIFE_SECONDS = 0.05

_MAX_HEAD_BYTES = 64 * 1024


FaultKind = Literal["status", "cut", "end_early", "malformed", "hang", "error_event", "stall"]


@dataclass(frozen=True)
class ScriptedCall:
    """A tool call. `{conversation}` and `{turn}` in texts of the arguments are replaced."""

    tool: str
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class ScriptedTurn:
    """One answer."""

    text: str = ""
    """`{conversation}` and `{turn}` are replaced."""
    calls: list[ScriptedCall] = field(default_factory=list[ScriptedCall])
    thinking: str = ""
    input_tokens: int = 100
    output_tokens: int = 10
    chunk_seconds: float = 0.0
    """Pause before each piece of a streamed answer."""
    stamped_chunks: int = 0
    """Instead of `text`: this many words, each the time (`time.time()`) at which it was sent."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    `status`: an error with that status. `cut`: the connection breaks after some pieces. `end_early`: the
    same, but the HTTP body ends in good order. `malformed`: a piece that is no JSON. `hang`: nothing is
    answered until `release`. `error_event`: an error inside the stream, after some pieces. `stall`: after
    some pieces nothing but signs of life, until `release`.
    """

    kind: FaultKind
    status: int = 500
    message: str = "the model is out of order"
    code: str | None = None
    retry_after: str | None = None
    """Text of the header `Retry-After`."""
    after_pieces: int = 3


@dataclass
class ScriptedModel:
    """What the server says and what goes wrong."""

    turns: list[ScriptedTurn]
    """The answers of each conversation; after the last, the last again."""
    faults: dict[int, list[Fault]] = field(default_factory=dict[int, list[Fault]])
    """By turn from 1: what befalls the first, second, … request for it, in each conversation."""
    models: list[str] | None = None
    """Models that exist; None: all."""
    conversations: dict[str, list[ScriptedTurn]] = field(default_factory=dict[str, list[ScriptedTurn]])
    """Other answers for these conversations."""

    def turn(self, question: Question) -> ScriptedTurn:
        """The answer to a question."""
        turns = self.conversations.get(question.conversation, self.turns)
        return turns[min(question.turn, len(turns)) - 1]

    def fault(self, question: Question, nth: int) -> Fault | None:
        """What befalls the n-th request of a question."""
        faults = self.faults.get(question.turn, [])
        return faults[nth - 1] if nth <= len(faults) else None


@dataclass(frozen=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class ModelServer:
    """Serves a script from a thread of its own while it is entered."""

    def __init__(self, script: ScriptedModel, *, port: int = 0, key: str = VALID_KEY) -> None:
        self.script = script
        self.port = port
        self._key = key
        self.bodies: list[dict[str, Any]] = []
        """The JSON body of each request for an answer, in order."""
        self.requests: list[Request] = []
        """All of them, in order."""
        self.connections = 0
        """How many connections were opened."""
        self._asked: Counter[tuple[str, int]] = Counter()
        self._answered: Counter[tuple[str, int]] = Counter()
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._released = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="model-server", daemon=True)

    # --- for tests ----------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Base URL for OpenAI's SDK; Anthropic's wants it without `/v1`."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def asked(self) -> dict[tuple[str, int], int]:
        """Requests by (conversation, turn), also those that went wrong."""
        with self._changed:
            return dict(self._asked)

    @property
    def answered(self) -> dict[tuple[str, int], int]:
        """Answers that were sent to their end, by (conversation, turn)."""
        with self._changed:
            return dict(self._answered)

    def wait_until_asked(self, conversation: str, turn: int, times: int = 1) -> None:
        """Wait until that many requests have come for a turn."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._asked[conversation, turn] >= times, WAIT_SECONDS):
                raise TimeoutError(f"turn {turn} of {conversation!r} was not asked for {times} times")

    def release(self) -> None:
        """Let everything that hangs go on."""
        self._loop.call_soon_threadsafe(self._released.set)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(WAIT_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(WAIT_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS)
        self._loop.close()

    # --- HTTP ---------------------------------------------------------------------------------

    async def _start(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, limit=_MAX_HEAD_BYTES, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        self._released.set()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.connections += 1
        try:
            while (request := await _read_request(reader)) is not None:
                await self._handle(request, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the server stops
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _handle(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.requests.append(request)
        if request.method == "GET" and request.path == "/stats":
            await _send(writer, 200, json.dumps(self.stats()).encode())
        elif request.method == "POST" and request.path == "/release":
            self._released.set()
            await _send(writer, 200, b"{}")
        elif request.method == "POST" and (wire_format := _wire_format_of(request.path)):
            await self._answer(wire_format, request, writer)
        else:
            await _send(writer, 404, b'{"error": {"message": "no such path"}}')

    def stats(self) -> dict[str, Any]:
        """Counts by conversation and turn, for other processes."""
        with self._changed:
            counts = {"asked": self._asked, "answered": self._answered}
            return {
                name: [[conversation, turn, count] for (conversation, turn), count in counter.items()]
                for name, counter in counts.items()
            }

    async def _answer(self, wire_format: WireFormat, request: Request, writer: asyncio.StreamWriter) -> None:
        key = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix(
            "Bearer "
        )
        if key != self._key:
            body = encode_error(wire_format, 401, f"Incorrect API key provided: {key}", "invalid_api_key")
            await _send(writer, 401, body)
            return
        body_json: dict[str, Any] = json.loads(request.body)
        question = read_question(wire_format, body_json)
        place = (question.conversation, question.turn)
        if self.script.models is not None and question.model not in self.script.models:
            message = f"The model `{question.model}` does not exist"
            await _send(writer, 404, encode_error(wire_format, 404, message, "model_not_found"))
            return
        with self._changed:
            self.bodies.append(body_json)
            self._asked[place] += 1
            fault = self.script.fault(question, self._asked[place])
            self._changed.notify_all()
        if fault is not None and fault.kind == "status":
            headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
            body = encode_error(wire_format, fault.status, fault.message, fault.code)
            await _send(writer, fault.status, body, headers)
            return
        if fault is not None and fault.kind == "hang":
            await self._released.wait()
            fault = None
        await self._send_answer(wire_format, question, fault, writer)
        with self._changed:
            self._answered[place] += 1
            self._changed.notify_all()

    async def _send_answer(
        self, wire_format: WireFormat, question: Question, fault: Fault | None, writer: asyncio.StreamWriter
    ) -> None:
        turn = self.script.turn(question)
        answer = _fill_in(turn, question)
        if not question.stream:
            body = encode_answer(wire_format, answer)
            if fault is not None:
                body = body[: len(body) // 2]
            await _send(writer, 200, body, announced=len(body) + (fault is not None and fault.kind == "cut"))
            if fault is not None:
                raise ConnectionAbortedError
            return
        pieces = encode_stream(wire_format, answer)
        writer.write(_head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}))
        for index, piece in enumerate(pieces):
            if fault is not None and index == fault.after_pieces:
                await _break_stream(wire_format, fault, writer)
            if turn.chunk_seconds:
                await asyncio.sleep(turn.chunk_seconds)
            _write_chunk(writer, piece.replace(b"NOW", f"{time.time():.6f}".encode()))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def _fill_in(turn: ScriptedTurn, question: Question) -> Answer:
    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("{conversation}", question.conversation).replace(
                "{turn}", str(question.turn)
            )
        return value

    calls = [
        Call(
            call.tool,
            {name: fill(value) for name, value in call.arguments.items()},
            f"call_{question.conversation}_{question.turn}_{place}",
        )
        for place, call in enumerate(turn.calls, start=1)
    ]
    return Answer(
        text=" ".join(["NOW"] * turn.stamped_chunks) if turn.stamped_chunks else fill(turn.text),
        thinking=turn.thinking,
        calls=calls,
        input_tokens=turn.input_tokens,
        output_tokens=turn.output_tokens,
        model=question.model,
        answer_id=f"{question.conversation}_{question.turn}",
    )


async def _break_stream(wire_format: WireFormat, fault: Fault, writer: asyncio.StreamWriter) -> None:
    """Spoil a stream in the middle; the connection is not usable afterwards."""
    while fault.kind == "stall":
        ping = b": ping\n\n" if wire_format is WireFormat.CHAT else b'event: ping\ndata: {"type": "ping"}\n\n'
        _write_chunk(writer, ping)
        await writer.drain()
        await asyncio.sleep(SIGN_OF_LIFE_SECONDS)
    if fault.kind == "malformed":
        _write_chunk(writer, b'event: message\ndata: {"type": "message", "brok\n\n')
    elif fault.kind == "error_event":
        body = encode_error(wire_format, fault.status, fault.message, fault.code)
        _write_chunk(writer, b"event: error\ndata: " + body + b"\n\n")
    if fault.kind != "cut":
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    raise ConnectionAbortedError


def _wire_format_of(path: str) -> WireFormat | None:
    path = path.partition("?")[0]
    return next((wire_format for wire_format in WireFormat if path.endswith(wire_format.value)), None)


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request of a connection; None where there is none."""
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
        if name
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body)


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode("latin-1")


def _write_chunk(writer: asyncio.StreamWriter, content: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(content), content))


async def _send(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    announced: int | None = None,
) -> None:
    length = str(len(body) if announced is None else announced)
    writer.write(
        _head(status, {"Content-Type": "application/json", "Content-Length": length, **(headers or {})})
    )
    writer.write(body)
    await writer.drain()


def main(arguments: Sequence[str]) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Serve a scripted model.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", type=Path, required=True, help="a ScriptedModel as JSON")
    options = parser.parse_args(arguments)
    script = TypeAdapter(ScriptedModel).validate_json(options.script.read_bytes())
    with ModelServer(script, port=options.port) as server:
        print(server.url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main(sys.argv[1:])
