"""The wire formats of OpenAI (Chat Completions, Responses) and Anthropic (Messages), for the model server.

Pure: reads a request's body, and makes the bytes of answers and errors. Field names and event orders as
the SDKs openai 3.54 and anthropic 2.12 parse them.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

JsonObject = dict[str, Any]

CREATED_AT = 1_700_000_000
DEFAULT_CONVERSATION = "default"

_MARKER = re.compile(r"\[conversation ([\w.-]+)\]")
_WORD = re.compile(r"\s*\S+\s*")


class WireFormat(StrEnum):
    """Which API a request is for; the value is its path, below `/v1` or not."""

    CHAT = "/chat/completions"
    RESPONSES = "/responses"
    MESSAGES = "/messages"


@dataclass(frozen=True)
class Call:
    """One tool call of an answer."""

    tool: str
    arguments: Mapping[str, object]
    call_id: str


@dataclass(frozen=True)
class Answer:
    """One whole answer."""

    text: str
    thinking: str
    calls: Sequence[Call]
    input_tokens: int
    output_tokens: int
    model: str
    answer_id: str


@dataclass(frozen=True)
class Question:
    """What a request asks."""

    conversation: str
    """The marker `[conversation KEY]` of the newest prompt that has one."""
    turn: int
    """1 for the first answer after that prompt."""
    model: str
    stream: bool


def read_question(wire_format: WireFormat, body: JsonObject) -> Question:
    """Find the conversation and the turn in a request's body."""
    key = "input" if wire_format is WireFormat.RESPONSES else "messages"
    content = body[key]
    items: list[JsonObject] = (
        [{"role": "user", "content": content}]
        if isinstance(content, str)
        else cast("list[JsonObject]", content)
    )
    conversation, turns, was_answer = DEFAULT_CONVERSATION, 0, False
    for item in items:
        marker = _MARKER.search(json.dumps(item)) if item.get("role") == "user" else None
        if marker:
            conversation, turns = marker.group(1), 0
        # In the Responses API one answer is several items in a row.
        is_answer = item.get("role") == "assistant" or item.get("type") in ("function_call", "reasoning")
        if is_answer and not (was_answer and wire_format is WireFormat.RESPONSES):
            turns += 1
        was_answer = is_answer
    return Question(conversation, turns + 1, str(body["model"]), bool(body.get("stream")))


def encode_answer(wire_format: WireFormat, answer: Answer) -> bytes:
    """The body of an answer that is not streamed."""
    match wire_format:
        case WireFormat.CHAT:
            body = _chat_body(answer)
        case WireFormat.RESPONSES:
            body = _responses_body(answer, _responses_items(answer), "completed")
        case WireFormat.MESSAGES:
            body = _message_body(answer, _message_blocks(answer), _stop_reason(answer))
    return json.dumps(body).encode()


def encode_stream(wire_format: WireFormat, answer: Answer) -> list[bytes]:
    """The server-sent events of a streamed answer, one or more per item."""
    match wire_format:
        case WireFormat.CHAT:
            return [*map(_data, _chat_chunks(answer)), b"data: [DONE]\n\n"]
        case WireFormat.RESPONSES:
            events = _responses_events(answer)
            return [_event({**event, "sequence_number": number}) for number, event in enumerate(events)]
        case WireFormat.MESSAGES:
            return [_event(event) for event in _message_events(answer)]


def encode_error(wire_format: WireFormat, status: int, message: str, code: str | None) -> bytes:
    """The body of an error."""
    if wire_format is WireFormat.MESSAGES:
        kind = code or _ANTHROPIC_ERROR_TYPES.get(status, "api_error")
        return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    error = {"message": message, "type": "server_error" if status >= 500 else "invalid_request_error"}
    return json.dumps({"error": {**error, "param": None, "code": code}}).encode()


_ANTHROPIC_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def words_of(text: str) -> list[str]:
    """The pieces in which a text is streamed."""
    return _WORD.findall(text) or ([text] if text else [])


def _data(event: JsonObject) -> bytes:
    return f"data: {json.dumps(event)}\n\n".encode()


def _event(event: JsonObject) -> bytes:
    return f"event: {event['type']}\n".encode() + _data(event)


# --- OpenAI Chat Completions ------------------------------------------------------------------


def _chat_usage(answer: Answer) -> JsonObject:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }


def _chat_call(call: Call, arguments: str) -> JsonObject:
    function = {"name": call.tool, "arguments": arguments}
    return {"id": call.call_id, "type": "function", "function": function}


def _chat_body(answer: Answer) -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": answer.text or None}
    if answer.thinking:
        message["reasoning"] = answer.thinking
    if answer.calls:
        message["tool_calls"] = [_chat_call(call, json.dumps(call.arguments)) for call in answer.calls]
    reason = "tool_calls" if answer.calls else "stop"
    return {
        **_chat_head(answer, "chat.completion"),
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": _chat_usage(answer),
    }


def _chat_head(answer: Answer, kind: str) -> JsonObject:
    return {"id": answer.answer_id, "object": kind, "created": CREATED_AT, "model": answer.model}


def _chat_chunks(answer: Answer) -> Iterator[JsonObject]:
    head = _chat_head(answer, "chat.completion.chunk")

    def chunk(delta: JsonObject, finish_reason: str | None = None) -> JsonObject:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}

    yield chunk({"role": "assistant", "content": ""})
    for word in words_of(answer.thinking):
        yield chunk({"reasoning": word})
    for word in words_of(answer.text):
        yield chunk({"content": word})
    for index, call in enumerate(answer.calls):
        yield chunk({"tool_calls": [{"index": index, **_chat_call(call, "")}]})
        for piece in words_of(json.dumps(call.arguments)):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, "tool_calls" if answer.calls else "stop")
    yield {**head, "choices": [], "usage": _chat_usage(answer)}


# --- OpenAI Responses -------------------------------------------------------------------------


def _responses_items(answer: Answer) -> list[JsonObject]:
    items: list[JsonObject] = []
    if answer.thinking:
        summary = [{"type": "summary_text", "text": answer.thinking}]
        items.append({"type": "reasoning", "id": f"rs_{answer.answer_id}", "summary": summary})
    if answer.text:
        items.append(
            {
                "type": "message",
                "id": f"msg_{answer.answer_id}",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": answer.text, "annotations": []}],
            }
        )
    items.extend(
        {
            "type": "function_call",
            "id": f"fc_{call.call_id}",
            "call_id": call.call_id,
            "name": call.tool,
            "arguments": json.dumps(call.arguments),
            "status": "completed",
        }
        for call in answer.calls
    )
    return items


def _responses_body(answer: Answer, output: list[JsonObject], status: str) -> JsonObject:
    body: JsonObject = {
        "id": f"resp_{answer.answer_id}",
        "object": "response",
        "created_at": CREATED_AT,
        "model": answer.model,
        "status": status,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    if status == "completed":
        body["usage"] = {
            "input_tokens": answer.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": answer.input_tokens + answer.output_tokens,
        }
    return body


def _responses_events(answer: Answer) -> Iterator[JsonObject]:
    yield {"type": "response.created", "response": _responses_body(answer, [], "in_progress")}
    items = _responses_items(answer)
    for index, item in enumerate(items):
        place: JsonObject = {"item_id": item["id"], "output_index": index}
        yield {"type": "response.output_item.added", "output_index": index, "item": _unfinished(item)}
        if item["type"] == "message":
            part: JsonObject = {"type": "output_text", "text": "", "annotations": []}
            place["content_index"] = 0
            yield {"type": "response.content_part.added", **place, "part": part}
            for word in words_of(answer.text):
                yield {"type": "response.output_text.delta", **place, "delta": word, "logprobs": []}
            yield {"type": "response.output_text.done", **place, "text": answer.text, "logprobs": []}
            yield {"type": "response.content_part.done", **place, "part": item["content"][0]}
        elif item["type"] == "reasoning":
            place["summary_index"] = 0
            part = {"type": "summary_text", "text": ""}
            yield {"type": "response.reasoning_summary_part.added", **place, "part": part}
            for word in words_of(answer.thinking):
                yield {"type": "response.reasoning_summary_text.delta", **place, "delta": word}
            yield {"type": "response.reasoning_summary_text.done", **place, "text": answer.thinking}
            yield {"type": "response.reasoning_summary_part.done", **place, "part": item["summary"][0]}
        else:
            kind = "response.function_call_arguments"
            for piece in words_of(item["arguments"]):
                yield {"type": f"{kind}.delta", **place, "delta": piece}
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield {"type": f"{kind}.done", **place, **done}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": _responses_body(answer, items, "completed")}


def _unfinished(item: JsonObject) -> JsonObject:
    empty: dict[str, JsonObject] = {
        "message": {"content": []},
        "function_call": {"arguments": ""},
        "reasoning": {"summary": []},
    }
    return {**item, **empty[item["type"]], **({"status": "in_progress"} if "status" in item else {})}


# --- Anthropic Messages -----------------------------------------------------------------------


def _message_blocks(answer: Answer) -> list[JsonObject]:
    blocks: list[JsonObject] = []
    if answer.thinking:
        blocks.append({"type": "thinking", "thinking": answer.thinking, "signature": "signed"})
    if answer.text:
        blocks.append({"type": "text", "text": answer.text})
    blocks.extend(
        {"type": "tool_use", "id": call.call_id, "name": call.tool, "input": call.arguments}
        for call in answer.calls
    )
    return blocks


def _stop_reason(answer: Answer) -> str:
    return "tool_use" if answer.calls else "end_turn"


def _message_body(answer: Answer, content: list[JsonObject], stop_reason: str | None) -> JsonObject:
    return {
        "id": f"msg_{answer.answer_id}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": answer.input_tokens,
            "output_tokens": answer.output_tokens if stop_reason else 1,
        },
    }


def _message_events(answer: Answer) -> Iterator[JsonObject]:
    yield {"type": "message_start", "message": _message_body(answer, [], None)}
    for index, block in enumerate(_message_blocks(answer)):
        deltas: list[JsonObject]
        match block["type"]:
            case "thinking":
                start: JsonObject = {"type": "thinking", "thinking": "", "signature": ""}
                deltas = [
                    {"type": "thinking_delta", "thinking": word} for word in words_of(block["thinking"])
                ]
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            case "text":
                start = {"type": "text", "text": ""}
                deltas = [{"type": "text_delta", "text": word} for word in words_of(block["text"])]
            case _:
                start = {**block, "input": {}}
                pieces = words_of(json.dumps(block["input"]))
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": answer.output_tokens}}
    yield {"type": "message_stop"}
