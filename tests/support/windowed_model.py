"""A model over real HTTP that takes so many tokens and no more, refuses the rest as OpenAI does, and reports
what it found of a request in its cache.

It calls a tool turn by turn, whatever was dropped from the conversation: the number of its last call that it
is still shown says where it stands. So it serves conversations that are compacted.
"""

import asyncio
import itertools
import json
from collections import Counter
from typing import Any, Final

from model_server import ModelServer, Request, ScriptedModel, ScriptedTurn

BYTES_A_TOKEN: Final = 4
_SUMMARY: Final = "outgrew its context window. Below"
_NUMBER: Final = '"number": '


class WindowedModel(ModelServer):
    """Answers `turns` times with a call of `run_command`, then with `Done.`."""

    def __init__(
        self, *, window_tokens: int, turns: int, command: str, summary: str = "All went well."
    ) -> None:
        """`{number}` in `command` is the turn."""
        super().__init__(ScriptedModel([ScriptedTurn("")]))
        self.window_tokens = window_tokens
        self.turns = turns
        self.summary = summary
        self._command = command
        self.sizes: list[int] = []
        """Tokens of each request that was taken, in order."""
        self.refused: list[int] = []
        """Tokens of each that was not."""
        self.summaries: Counter[str] = Counter()
        """How often each summary was asked for, by the request's text."""
        self.paid: Counter[int] = Counter()
        """How often each turn was answered."""
        self.prompts: list[str] = []
        """The text of each request for a turn that was taken."""

    async def _handle(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.requests.append(request)
        if request.method != "POST":
            await self._reply(writer, 404, b'{"error": {"message": "no such path"}}', "application/json")
            return
        body: dict[str, Any] = json.loads(request.body)
        size = len(request.body) // BYTES_A_TOKEN
        if size > self.window_tokens:
            self.refused.append(size)
            message = (
                f"This model's maximum context length is {self.window_tokens} tokens. However, your messages "
                f"resulted in {size} tokens. Please reduce the length of the messages."
            )
            error = {
                "error": {
                    "message": message,
                    "type": "invalid_request_error",
                    "code": "context_length_exceeded",
                }
            }
            await self._reply(writer, 400, json.dumps(error).encode(), "application/json")
            return
        self.bodies.append(body)
        self.sizes.append(size)
        text = json.dumps(body["messages"])
        if _SUMMARY in text:
            self.summaries[text] += 1
            delta: dict[str, Any] = {"content": self.summary}
            cached = 0
        else:
            cached = _common(self.prompts[-1], text) // BYTES_A_TOKEN if self.prompts else 0
            self.prompts.append(text)
            delta = self._turn(body)
        await self._reply(writer, 200, _stream(delta, size, cached), "text/event-stream")

    def _turn(self, body: dict[str, Any]) -> dict[str, Any]:
        number = 1 + _last_number(body["messages"])
        self.paid[number] += 1
        if number > self.turns:
            return {"content": "Done."}
        arguments = json.dumps(
            {"command": f"true {_NUMBER}{number}; " + self._command.replace("{number}", str(number))}
        )
        function = {"name": "run_command", "arguments": arguments}
        return {
            "tool_calls": [{"index": 0, "id": f"call_{number}", "type": "function", "function": function}]
        }

    async def _reply(self, writer: asyncio.StreamWriter, status: int, body: bytes, kind: str) -> None:
        head = f"HTTP/1.1 {status} OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()


def _last_number(messages: list[dict[str, Any]]) -> int:
    """That of the last call; 0 where the person has said something since."""
    for message in reversed(messages):
        if message["role"] == "user":
            return 0
        calls: list[dict[str, Any]] = message.get("tool_calls") or []
        if calls:
            return int(calls[0]["id"].removeprefix("call_"))
    return 0


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    if other.startswith(one[:-1]):
        return len(one) - 1
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _stream(delta: dict[str, Any], size: int, cached: int) -> bytes:
    reason = "tool_calls" if "tool_calls" in delta else "stop"
    output = max(1, len(json.dumps(delta)) // BYTES_A_TOKEN)
    usage = {
        "prompt_tokens": size,
        "completion_tokens": output,
        "total_tokens": size + output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    base: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "windowed",
    }
    chunks: list[dict[str, Any]] = [
        base | {"choices": [{"index": 0, "delta": {"role": "assistant"} | delta, "finish_reason": None}]},
        base | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
        base | {"choices": [], "usage": usage},
    ]
    return (
        b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    )
