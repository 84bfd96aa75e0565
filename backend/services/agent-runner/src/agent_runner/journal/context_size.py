"""How large a request is, in tokens: by what the provider reported of the last one, else by its bytes.

Counts only what is new since the last request, so that a turn costs the same however long the talk is.
"""

import json
from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextContent,
    ThinkingPart,
    ToolCallPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import ToolDefinition

from agent_runner.models import ESTIMATED
from agent_runner.toolsets.tool_sizes import TOKENS_PER_KILOBYTE

_LEAST_PER_KILOBYTE: Final = 120
_MOST_PER_KILOBYTE: Final = 1024
_PART_BYTES: Final = 40
"""What a part takes beside its text."""
_FILE_BYTES: Final = 6000
"""A picture or a document: some 1,500 tokens, whatever its bytes."""


class ContextSize:
    """The size of one agent's requests, one after the other."""

    def __init__(self, tokens_per_kilobyte: int | None = None) -> None:
        """The ratio is that of an earlier leg; None: it is yet to be found out."""
        self.tokens_per_kilobyte = tokens_per_kilobyte or TOKENS_PER_KILOBYTE
        self._is_known = tokens_per_kilobyte is not None
        self._measured: list[ModelMessage] = []
        self._bytes = 0
        self._fixed: tuple[int, str | None, int] = (-1, None, 0)

    def of(self, messages: Sequence[ModelMessage], parameters: ModelRequestParameters | None) -> int:
        """The tokens of a request, its tools and instructions among them."""
        seen = len(self._measured)
        if seen > len(messages) or (seen and messages[seen - 1] is not self._measured[-1]):
            self._bytes, seen = 0, 0
        new = messages[seen:]
        self._bytes += sum(map(bytes_of, new))
        if not self._is_known:
            self._learn_from_history(messages)
        self._measured = list(messages)
        return self.tokens(self._bytes + self._fixed_bytes(messages[-1], parameters))

    def forget(self) -> None:
        """Count anew: messages in the middle were replaced."""
        self._measured, self._bytes = [], 0

    def tokens(self, size_bytes: int) -> int:
        """So many bytes of the conversation as tokens."""
        return size_bytes * self.tokens_per_kilobyte // 1024

    def bytes(self, tokens: int) -> int:
        """So many tokens as bytes of the conversation."""
        return tokens * 1024 // self.tokens_per_kilobyte

    def reported(self, input_tokens: int, *, estimated: bool) -> None:
        """The provider says how many tokens the request was that was measured last."""
        size = self._bytes + self._fixed[2]
        if estimated or input_tokens <= 0 or size < 1024:
            return
        self._set(input_tokens * 1024 // size)

    def is_at_least(self, tokens: int) -> None:
        """The request that was measured last is known to be larger than that."""
        size = max(1, self._bytes + self._fixed[2])
        if self.tokens(size) <= tokens:
            self._set(tokens * 1024 // size + 1)

    def _set(self, per_kilobyte: int) -> None:
        self.tokens_per_kilobyte = min(max(per_kilobyte, _LEAST_PER_KILOBYTE), _MOST_PER_KILOBYTE)
        self._is_known = True

    def _learn_from_history(self, messages: Sequence[ModelMessage]) -> None:
        """Of a session's earlier executions: what its last answer was reported to build on."""
        self._is_known = True
        for place in range(len(messages) - 1, 0, -1):
            message = messages[place]
            if isinstance(message, ModelResponse):
                usage = message.usage
                first = messages[0].parts[0] if messages[0].parts else None
                is_newer = message.timestamp > getattr(first, "timestamp", message.timestamp)
                size = sum(map(bytes_of, messages[:place]))
                if usage.input_tokens > 0 and ESTIMATED not in usage.details and is_newer and size > 1024:
                    self._set(usage.input_tokens * 1024 // size)
                return

    def _fixed_bytes(self, last: ModelMessage, parameters: ModelRequestParameters | None) -> int:
        instructions = last.instructions if isinstance(last, ModelRequest) else None
        tools = [] if parameters is None else [*shown_tools(parameters), *parameters.output_tools]
        count, known, size = self._fixed
        if count != len(tools) or known != instructions:
            size = len((instructions or "").encode(errors="replace")) + sum(
                len(tool.name) + len(tool.description or "") + len(json.dumps(tool.parameters_json_schema))
                for tool in tools
            )
            self._fixed = (len(tools), instructions, size)
        return size


def shown_tools(parameters: ModelRequestParameters) -> list[ToolDefinition]:
    """The tools without those that are yet to be searched for, whose schemas no model reads."""
    return [
        tool
        for tool in parameters.function_tools
        if not tool.defer_loading or tool.name in parameters.revealed_tool_names
    ]


def bytes_of(message: ModelMessage) -> int:
    """About how many bytes of a message a model reads."""
    return sum(map(bytes_of_part, message.parts))


def bytes_of_part(part: object) -> int:
    """Those of one part."""
    if isinstance(part, ToolCallPart):
        return _PART_BYTES + len(part.tool_name) + _size(part.args)
    size = _PART_BYTES + _size(getattr(part, "content", None))
    return size + len(part.signature or "") if isinstance(part, ThinkingPart) else size


def _size(content: object) -> int:
    match content:
        case None:
            return 0
        case str():
            return len(content) if content.isascii() else len(content.encode(errors="replace"))
        case BinaryContent():
            return _FILE_BYTES
        case TextContent():
            return _size(content.content)
        case list() | tuple():
            return sum(map(_size, content))  # pyright: ignore[reportUnknownArgumentType]
        case dict():
            return len(json.dumps(content, default=str, ensure_ascii=False))
        case _ if hasattr(content, "url"):
            return _FILE_BYTES
        case _:
            return len(str(content))


def text_of(content: object) -> str:
    """Content of a part as text; a file as a word in brackets."""
    match content:
        case None:
            return ""
        case str():
            return content
        case BinaryContent():
            return f"[{content.media_type}]"
        case TextContent():
            return content.content
        case list() | tuple():
            return "\n".join(map(text_of, content))  # pyright: ignore[reportUnknownArgumentType]
        case dict():
            return json.dumps(content, default=str, ensure_ascii=False)
        case _ if isinstance(url := getattr(content, "url", None), str):
            return f"[{url}]"
        case _:
            return str(content)


def as_json(value: object) -> JsonValue:
    """A value as JSON has it, where it is none."""
    return json.loads(json.dumps(value, default=str))
