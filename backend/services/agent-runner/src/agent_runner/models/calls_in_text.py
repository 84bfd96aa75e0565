"""Finds tool calls that a server left in the text of an answer, because it did not understand its own model.

Ollama, LM Studio, MLX and vLLM without the right parser give them as content, in `<tool_call>` tags or as
the bare object. Only a text that is nothing but calls of tools that there are is taken for calls.
"""

import json
import re
from collections.abc import Collection
from typing import Final, cast

from agent_runner.models.event_stream import JsonObject
from agent_runner.models.tool_calls import CallDraft, tool_name

_FRAMES: Final = re.compile(
    r"</?tool_calls?>|</?function_calls?>|<\|?/?tool_call(?:_(?:begin|end|argument_begin))?\|?>"
    r"|<\|python_tag\|>|\[TOOL_CALLS\]|^```(?:json|tool_call)?$|^```$",
    re.MULTILINE,
)
_ARGUMENTS: Final = ("arguments", "parameters", "args", "input")
MAX_CALLS: Final = 50


def calls_in_text(text: str, known_tools: Collection[str]) -> list[CallDraft]:
    """The calls that the text consists of; none where it is anything else."""
    if "{" not in text or "name" not in text:
        return []
    rest = _FRAMES.sub(" ", text).strip()
    if rest.startswith("[") and rest.endswith("]"):
        rest = rest[1:-1].strip()
    decoder, drafts = json.JSONDecoder(strict=False), list[CallDraft]()
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except (ValueError, RecursionError):
            return []
        draft = _draft_of(value, known_tools)
        if draft is None or len(drafts) == MAX_CALLS:
            return []
        drafts.append(draft)
        rest = rest[end:].lstrip(" \t\r\n,;")
    return drafts


def _draft_of(value: object, known_tools: Collection[str]) -> CallDraft | None:
    call = cast("JsonObject", value) if isinstance(value, dict) else {}
    function = call.get("function")
    if isinstance(function, dict):
        call = cast("JsonObject", function)
    name = call.get("name")
    if not isinstance(name, str) or (meant := tool_name(name, known_tools)) not in known_tools:
        return None
    given = [key for key in _ARGUMENTS if key in call]
    if set(call) - {"name", "id", "type", *given}:
        return None
    arguments: object = call[given[0]] if given else JsonObject()
    if isinstance(arguments, str):
        return CallDraft(name=meant, pieces=[arguments])
    if not isinstance(arguments, dict):
        return None
    return CallDraft(name=meant, pieces=[json.dumps(arguments, ensure_ascii=False)])
