"""Translates answers and results between pydantic-ai's JSON and our own words. The one place that knows both.

Knows the JSON of `pydantic_ai.messages.ModelResponse` and of `pydantic_ai.durable_exec.CallToolResult`
(2.62), which is also how the log of version 0.1.0 kept them. There and back is exact: what our words do not
say is kept in `exact`, key by key. Where a later pydantic-ai does not take what another version kept there,
the words alone are enough to go on.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, cast

from pydantic import JsonValue

from stigmer_contract.conversation import (
    AnswerFile,
    AnswerOther,
    AnswerPart,
    AnswerText,
    AnswerThinking,
    AnswerToolCall,
    ArgumentProblem,
    Content,
    DataContent,
    Exact,
    FileContent,
    LinkContent,
    ModelAnswer,
    TextContent,
    ToolOutcome,
    ToolResult,
)

BY_0_1_0: Final = "pydantic-ai 2.62.0"
"""The version that wrote the logs of Stigmer 0.1.0."""

_Fields = dict[str, JsonValue]
_LINKS: Final = frozenset({"image-url", "audio-url", "video-url", "document-url"})
_OUTCOMES: Final = {
    "tool_return": ToolOutcome.SUCCEEDED,
    "tool_content_result": ToolOutcome.SUCCEEDED,
    "validation_error": ToolOutcome.INVALID,
    "model_retry": ToolOutcome.FAILED,
    "tool_failed": ToolOutcome.FAILED,
    "run_cancelled": ToolOutcome.CANCELLED,
}
_TOLD_OUTCOMES: Final = {
    ToolOutcome.SUCCEEDED: "success",
    ToolOutcome.FAILED: "failed",
    ToolOutcome.INVALID: "retried",
    ToolOutcome.DENIED: "denied",
    ToolOutcome.EXPIRED: "denied",
    ToolOutcome.CANCELLED: "interrupted",
    ToolOutcome.UNKNOWN: "failed",
}
"""pydantic-ai's words for outcomes in messages."""
_ARGUMENTS_TEXT: Final = "stigmer_arguments_text"
"""Key in `exact` of a call whose arguments the model wrote as a text: the name of that way to write JSON."""
_WAYS_TO_WRITE: Final[dict[str, Callable[[JsonValue], str]]] = {
    "compact": lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
    "spaced": lambda value: json.dumps(value, ensure_ascii=False),
    "compact ASCII": lambda value: json.dumps(value, separators=(",", ":")),
    "spaced ASCII": json.dumps,
}
_LIST: Final = "stigmer_list"
"""Key in `exact` of a result that is a list of one."""
_WRAPPED: Final = "stigmer_wrapped"
"""Key in `exact` of a result that came as a `ToolReturn`: what it holds besides."""


# --- answers ----------------------------------------------------------------------------------


def answer_from_pydantic_ai(response: JsonValue, by: str) -> ModelAnswer:
    """Our words for a `ModelResponse`.

    Args:
        response: its JSON.
        by: the version that wrote it, as in `Exact.by`.
    """
    fields = _without_none(response)
    if isinstance(usage := fields.get("usage"), dict):
        fields["usage"] = {name: each for name, each in usage.items() if each}  # the rest is 0 anyway
    originals = [_without_none(part) for part in _items(fields.pop("parts", []))]
    parts = [_answer_part(original) for original in originals]
    answer = ModelAnswer(
        parts=parts,
        finish_reason=_text_or_none(fields.get("finish_reason")),
        model=_text_or_none(fields.get("model_name")),
        provider=_text_or_none(fields.get("provider_name")),
        response_id=_text_or_none(fields.get("provider_response_id")),
        provider_details=_fields_or_none(fields.get("provider_details")),
    )
    message = _rest(fields, _response_base(answer))
    rests = [_rest_of_part(original, part) for original, part in zip(originals, parts, strict=True)]
    exact = Exact(by=by, message=message, parts=rests if any(rests) else [])
    return answer.model_copy(update={"exact": exact})


def answer_to_pydantic_ai(answer: ModelAnswer, *, exactly: bool = True) -> _Fields:
    """The JSON of the `ModelResponse` that an answer was. `exactly`: with what stands beside our words."""
    exact = answer.exact if exactly else None
    parts: list[JsonValue] = []
    for place, part in enumerate(answer.parts):
        rest = exact.parts[place] if exact is not None and place < len(exact.parts) else {}
        if rest or not isinstance(part, AnswerOther):
            parts.append(_restore_part(part, rest))
        elif part.text:  # of a part that only another library knows, what can be read
            parts.append(_part_base(AnswerText(text=part.text)))
    message = _restore(_response_base(answer), exact.message if exact is not None else {})
    message["parts"] = parts
    return message


def _response_base(answer: ModelAnswer) -> _Fields:
    base: _Fields = {
        "model_name": answer.model,
        "provider_name": answer.provider,
        "provider_response_id": answer.response_id,
        "provider_details": answer.provider_details,
        "finish_reason": answer.finish_reason,
    }
    return {"kind": "response", **_without_none(base)}


def _answer_part(part: _Fields) -> AnswerPart:
    content = part.get("content")
    match part.get("part_kind"):
        case "text" if isinstance(content, str):
            return AnswerText(text=content)
        case "thinking" if isinstance(content, str):
            return AnswerThinking(text=content, signature=_text_or_none(part.get("signature")))
        case "tool-call":
            return AnswerToolCall(
                call_id=str(part.get("tool_call_id", "")),
                tool=str(part.get("tool_name", "")),
                arguments=_arguments(part.get("args")),
            )
        case "file" if isinstance(content, dict) and isinstance(content.get("data"), str):
            return AnswerFile(media_type=str(content.get("media_type")), data=str(content["data"]))
        case kind:
            return AnswerOther(name=str(kind), text=content if isinstance(content, str) else None)


def _part_base(part: AnswerPart) -> _Fields:
    match part:
        case AnswerText():
            return {"part_kind": "text", "content": part.text}
        case AnswerThinking():
            signature: _Fields = {} if part.signature is None else {"signature": part.signature}
            return {"part_kind": "thinking", "content": part.text, **signature}
        case AnswerToolCall():
            return {
                "part_kind": "tool-call",
                "tool_name": part.tool,
                "args": part.arguments,
                "tool_call_id": part.call_id,
            }
        case AnswerFile():
            content: _Fields = {"kind": "binary", "data": part.data, "media_type": part.media_type}
            return {"part_kind": "file", "content": content}
        case AnswerOther():
            return {}


def _rest_of_part(original: _Fields, part: AnswerPart) -> _Fields:
    base = _part_base(part)
    arguments = original.get("args")
    if isinstance(part, AnswerToolCall) and isinstance(part.arguments, dict) and isinstance(arguments, str):
        for name, write in _WAYS_TO_WRITE.items():
            if write(part.arguments) == arguments:
                parsed: _Fields = {**original, "args": part.arguments}
                return {_ARGUMENTS_TEXT: name, **_rest(parsed, base)}
    if isinstance(part, AnswerFile):
        original, base = _beside_file(original, base)
    return _rest(original, base)


def _restore_part(part: AnswerPart, rest: _Fields) -> _Fields:
    restored = _restore(_part_base(part), rest)
    write = _WAYS_TO_WRITE.get(str(restored.pop(_ARGUMENTS_TEXT, "")))
    if write is not None:
        restored["args"] = write(restored["args"])
    return _with_file(restored)


def _arguments(arguments: JsonValue) -> dict[str, JsonValue] | str:
    if isinstance(arguments, str):
        try:
            parsed = cast("JsonValue", json.loads(arguments or "{}"))
        except (ValueError, RecursionError):
            return arguments
        return parsed if isinstance(parsed, dict) else arguments
    return arguments if isinstance(arguments, dict) else {}


# --- results ----------------------------------------------------------------------------------


def result_from_pydantic_ai(result: JsonValue, by: str, outcome: ToolOutcome | None = None) -> ToolResult:
    """Our words for a `CallToolResult`.

    Args:
        result: its JSON.
        by: the version that wrote it, as in `Exact.by`.
        outcome: how the call ended; None: as the result itself says.
    """
    fields = _without_none(result) if isinstance(result, dict) else {}
    kind = fields.pop("kind", None)
    match kind:
        case "tool_return" | "tool_content_result":
            return _returned(cast("_Fields", result), str(kind), by, outcome)
        case "validation_error":
            errors = fields.pop("errors", [])
            words = ToolResult(
                outcome=outcome or _OUTCOMES[kind],
                content=[DataContent(value=errors)],
                problems=_problems(errors),
                correctable=True,
            )
        case "model_retry" | "tool_failed" | "run_cancelled":
            words = ToolResult(
                outcome=outcome or _OUTCOMES[kind],
                content=[TextContent(text=str(fields.pop("message", "")))],
                correctable=kind == "model_retry",
            )
        case _:
            # Nothing that pydantic-ai calls a result: a value that stands for itself.
            return ToolResult(
                outcome=outcome or ToolOutcome.SUCCEEDED, content=contents_from_pydantic_ai(result)[0]
            )
    return _with_exact(words, Exact(by=by, message={"kind": kind, **fields}))


def result_to_pydantic_ai(result: ToolResult, *, exactly: bool = True) -> _Fields:
    """The JSON of the `CallToolResult` that a result was. `exactly`: with what stands beside our words."""
    exact = result.exact if exactly and result.exact is not None else Exact(by="")
    fields = dict(exact.message)
    match fields.pop("kind", None) or _kind_of(result):
        case "tool_return" | "tool_content_result" as kind:
            value = contents_to_pydantic_ai(
                result.content, exact.parts, is_list=bool(fields.pop(_LIST, False))
            )
            wrapped = fields.pop(_WRAPPED, None)
            if wrapped is not None or result.beside or result.metadata is not None:
                value = _wrap(result, value, wrapped if isinstance(wrapped, dict) else {})
            return {"kind": kind, "result": value, **fields}
        case "validation_error":
            errors = result.content[0].value if isinstance(result.content[0], DataContent) else []
            return {"kind": "validation_error", "title": "", **fields, "errors": errors}
        case kind:
            return {"kind": kind, **fields, "message": result.text}


def outcome_of_pydantic_ai(result: JsonValue) -> ToolOutcome:
    """How a call ended, by its `CallToolResult` as JSON."""
    kind = result.get("kind") if isinstance(result, dict) else None
    return _OUTCOMES.get(str(kind), ToolOutcome.FAILED)


def told_to_pydantic_ai(call_id: str, tool: str, result: ToolResult, told_at: datetime) -> list[JsonValue]:
    """The parts of a `ModelRequest`, as JSON, that tell a model of a call's result."""
    exact = result.exact or Exact(by="")
    moment = told_at.isoformat()
    parts: list[JsonValue] = [
        {
            "part_kind": "tool-return",
            "tool_name": tool,
            "tool_call_id": call_id,
            "content": contents_to_pydantic_ai(
                result.content, exact.parts, is_list=bool(exact.message.get(_LIST))
            ),
            "metadata": result.metadata,
            "outcome": "retried" if result.correctable else _TOLD_OUTCOMES[result.outcome],
            "timestamp": moment,
        }
    ]
    if result.beside:
        beside = contents_to_pydantic_ai(result.beside, (), is_list=True)
        parts.append({"part_kind": "user-prompt", "content": beside, "timestamp": moment})
    return parts


def _kind_of(result: ToolResult) -> str:
    if result.outcome is ToolOutcome.SUCCEEDED:
        return "tool_return"
    return "model_retry" if result.correctable else "tool_failed"


def _returned(fields: _Fields, kind: str, by: str, outcome: ToolOutcome | None) -> ToolResult:
    value = fields.get("result")
    message: _Fields = {"kind": kind}
    beside: list[Content] = []
    metadata: JsonValue = None
    if kind == "tool_return" and isinstance(value, dict) and value.get("kind") == "tool-return":
        wrapped = {name: each for name, each in _without_none(value).items() if name != "kind"}
        value = wrapped.pop("return_value", None)
        metadata = wrapped.pop("metadata", None)
        shown = wrapped.get("content", [])
        pairs = [_content(item) for item in (shown if isinstance(shown, list) else [shown])]
        beside = [part for part, _ in pairs]
        if isinstance(shown, list) and shown and not any(rest for _, rest in pairs):
            wrapped.pop("content", None)
        message[_WRAPPED] = wrapped
    content, rests, is_list = contents_from_pydantic_ai(value)
    if is_list and len(content) == 1:
        message[_LIST] = True
    words = ToolResult(
        outcome=outcome or ToolOutcome.SUCCEEDED, content=content, beside=beside, metadata=metadata
    )
    return _with_exact(words, Exact(by=by, message=message, parts=rests if any(rests) else []))


def _with_exact(result: ToolResult, exact: Exact) -> ToolResult:
    """The result with what stands beside it, unless our words alone lead to the same."""
    if not exact.parts and exact.message == {"kind": _kind_of(result)}:
        return result
    return result.model_copy(update={"exact": exact})


def _wrap(result: ToolResult, value: JsonValue, wrapped: _Fields) -> JsonValue:
    beside = contents_to_pydantic_ai(result.beside, (), is_list=True) if result.beside else None
    fields: _Fields = {"content": beside, "metadata": result.metadata, **wrapped}
    return {"kind": "tool-return", "return_value": value, **_without_none(fields)}


def _problems(errors: JsonValue) -> list[ArgumentProblem]:
    problems: list[ArgumentProblem] = []
    for error in _items(errors):
        if isinstance(error, dict):
            path = ".".join(str(part) for part in _items(error.get("loc") or []))
            problems.append(ArgumentProblem(path=path, problem=str(error.get("msg", ""))))
    return problems


# --- content ----------------------------------------------------------------------------------


def contents_from_pydantic_ai(value: JsonValue) -> tuple[list[Content], list[_Fields], bool]:
    """Our words for a tool's return value: the parts, what is exact about each, and whether it is a list."""
    if isinstance(value, list) and any(_is_file(item) for item in value):
        pairs = [_content(item) for item in value]
        return [content for content, _ in pairs], [rest for _, rest in pairs], True
    content, rest = _content(value)
    return [content], [rest], False


def contents_to_pydantic_ai(
    contents: Sequence[Content], exact: Sequence[_Fields], *, is_list: bool
) -> JsonValue:
    """The return value that the parts were."""
    values = [
        _content_value(content, exact[place] if place < len(exact) else {})
        for place, content in enumerate(contents)
    ]
    return values[0] if len(values) == 1 and not is_list else values


def _content(value: JsonValue) -> tuple[Content, _Fields]:
    if isinstance(value, str):
        return TextContent(text=value), {}
    if not isinstance(value, dict) or not _is_file(value):
        return DataContent(value=value), {}
    fields = _without_none(value)
    if fields["kind"] == "binary":
        content: Content = FileContent(
            media_type=str(fields.get("media_type")),
            data=str(fields["data"]),
            name=_text_or_none(fields.get("identifier")),
        )
    else:
        content = LinkContent(url=str(fields["url"]), media_type=_text_or_none(fields.get("media_type")))
    return content, _rest(fields, _content_base(content))


def _content_value(content: Content, rest: _Fields) -> JsonValue:
    match content:
        case TextContent():
            return content.text
        case DataContent():
            return content.value
        case FileContent() | LinkContent():
            return _restore(_content_base(content), rest)


def _content_base(content: FileContent | LinkContent) -> _Fields:
    if isinstance(content, FileContent):
        base: _Fields = {
            "kind": "binary",
            "data": content.data,
            "media_type": content.media_type,
            "identifier": content.name,
        }
    else:
        sort = (content.media_type or "").partition("/")[0]
        kind = f"{sort}-url" if f"{sort}-url" in _LINKS else "document-url"
        base = {"kind": kind, "url": content.url, "media_type": content.media_type}
    return _without_none(base)


def _is_file(value: JsonValue) -> bool:
    if not isinstance(value, dict):
        return False
    kind = value.get("kind")
    if kind == "binary":
        return isinstance(value.get("data"), str)
    return kind in _LINKS and isinstance(value.get("url"), str)


# --- what is exact ----------------------------------------------------------------------------


def _rest(original: _Fields, base: _Fields) -> _Fields:
    """What must be laid over `base` to get `original`; a None takes a key away."""
    rest: _Fields = {name: value for name, value in original.items() if base.get(name, ...) != value}
    for name in base:
        if name not in original:
            rest[name] = None
    return rest


def _restore(base: _Fields, rest: _Fields) -> _Fields:
    return {name: value for name, value in {**base, **rest}.items() if value is not None}


_FILE: Final = "stigmer_file"
"""Key in `exact` of a file: what its content says besides."""


def _beside_file(original: _Fields, base: _Fields) -> tuple[_Fields, _Fields]:
    """Both without the file itself, so that its bytes are kept once."""
    content, ours = cast("_Fields", original["content"]), cast("_Fields", base["content"])
    rest = _rest(_without_none(content), ours)
    return {**original, "content": None, **({_FILE: rest} if rest else {})}, {**base, "content": None}


def _with_file(restored: _Fields) -> _Fields:
    rest, content = restored.pop(_FILE, None), restored.get("content")
    if isinstance(rest, dict) and isinstance(content, dict):
        restored["content"] = _restore(content, rest)
    return restored


def _without_none(value: JsonValue) -> _Fields:
    fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    return {name: each for name, each in fields.items() if each is not None}


def _items(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _text_or_none(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None


def _fields_or_none(value: JsonValue) -> _Fields | None:
    return value if isinstance(value, dict) else None
