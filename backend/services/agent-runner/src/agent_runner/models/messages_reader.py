"""Reads answers in the words of Anthropic's Messages API, streamed or whole."""

from typing import Final, cast

from agent_runner.models.answer_builder import AnswerBuilder, Passage
from agent_runner.models.event_stream import JsonObject
from agent_runner.models.provider_call import AnswerReader
from agent_runner.models.tool_calls import CallDraft, text_of_arguments

REDACTED: Final = "redacted_thinking"
"""pydantic-ai's id for thinking that only Anthropic can read."""
_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)


class MessagesReader(AnswerReader):
    """Takes the events of a stream, or one whole message."""

    def __init__(self, model: str, builder: AnswerBuilder) -> None:
        super().__init__(model, builder)
        self._blocks: dict[object, Passage | CallDraft | None] = {}
        """By index; None: of a kind that is not kept."""
        self._counts: dict[str, int] = {}

    def take(self, record: JsonObject) -> None:
        """Take in the next event."""
        match record.get("type"):
            case "message_start":
                self._take_message(record.get("message"))
            case "message":
                self._take_message(record)
                self.is_over = True
            case "content_block_start":
                self._start_block(record.get("index"), record.get("content_block"))
            case "content_block_delta":
                self._take_delta(record.get("index"), record.get("delta"))
            case "message_delta":
                delta = record.get("delta")
                self._take_counts(record.get("usage"))
                if isinstance(delta, dict):
                    self._take_reason(cast("JsonObject", delta).get("stop_reason"))
            case "message_stop":
                self.is_over = True
            case "ping" | "content_block_stop":
                pass
            case _:
                self.refuse_error(record)

    def _take_message(self, value: object) -> None:
        if not isinstance(value, dict):
            return
        message = cast("JsonObject", value)
        self.builder.model = _text(message.get("model")) or self.builder.model
        self.builder.answer_id = _text(message.get("id")) or self.builder.answer_id
        self._take_counts(message.get("usage"))
        self._take_reason(message.get("stop_reason"))
        content = message.get("content")
        for index, block in enumerate(cast("list[object]", content) if isinstance(content, list) else []):
            self._start_block(index, block)
            if isinstance(block, dict) and "signature" in block:
                self._take_delta(index, {**cast("JsonObject", block), "type": "signature_delta"})

    def _take_reason(self, reason: object) -> None:
        if isinstance(reason, str) and reason:
            self.builder.reason = reason

    def _take_counts(self, usage: object) -> None:
        """Later reports hold what has changed; the parts of the input are counted apart."""
        if not isinstance(usage, dict):
            return
        for name in _COUNTS:
            count = cast("JsonObject", usage).get(name)
            if isinstance(count, int | float) and not isinstance(count, bool) and count > 0:
                self._counts[name] = int(count)
        counts = self._counts
        written, read = counts.get("cache_creation_input_tokens", 0), counts.get("cache_read_input_tokens", 0)
        if counts:
            self.builder.report = {
                "input_tokens": counts.get("input_tokens", 0) + written + read,
                "output_tokens": counts.get("output_tokens", 0),
                "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
            }

    def _start_block(self, index: object, value: object) -> None:
        block = cast("JsonObject", value) if isinstance(value, dict) else {}
        builder = self.builder
        piece: Passage | CallDraft | None = None
        match block.get("type"):
            case "text":
                piece = Passage("text", f"block {len(self._blocks)}")
            case "thinking":
                piece = Passage("thinking", f"block {len(self._blocks)}")
                piece.signature = _text(block.get("signature")) or None
            case "redacted_thinking":
                piece = Passage("thinking", REDACTED, signature=_text(block.get("data")) or None)
            case "tool_use":
                piece = CallDraft(index, _text(block.get("id")), _text(block.get("name")))
                if block.get("input"):
                    piece.pieces.append(text_of_arguments(block["input"]))
            case _:
                pass  # of tools that the provider runs itself; none is asked for
        self._blocks[index] = piece
        if piece is not None:
            builder.order.append(piece)
        if isinstance(piece, Passage) and piece.key != REDACTED:
            self._write(piece, _text(block.get(piece.kind)))

    def _write(self, passage: Passage, text: str) -> None:
        if text:
            passage.pieces.append(text)
            self.builder.show_piece(passage.kind, text)

    def _take_delta(self, index: object, value: object) -> None:
        delta = cast("JsonObject", value) if isinstance(value, dict) else {}
        kind = _text(delta.get("type"))
        if index not in self._blocks:
            if kind not in ("text_delta", "thinking_delta"):
                return
            self._start_block(index, {"type": kind.removesuffix("_delta")})
        block = self._blocks[index]
        if isinstance(block, Passage):
            if kind == "signature_delta":
                block.signature = _text(delta.get("signature")) or block.signature
            else:
                self._write(block, _text(delta.get(block.kind)))
        elif block is not None and kind == "input_json_delta":
            text = _text(delta.get("partial_json"))
            block.pieces.append(text)
            self.builder.characters += len(text)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
