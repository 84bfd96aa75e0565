"""Text and tool calls of a model's answer, from pydantic-ai's `ModelResponse` as JSON."""

import json
from typing import cast

from stigmer_cli.rendering.tool_calls import describe_call


def response_text(response: object) -> str:
    """What the model said, without its thinking."""
    return "".join(
        str(part.get("content", "")) for part in _parts(response) if part.get("part_kind") == "text"
    )


def response_calls(response: object) -> dict[str, str]:
    """One line for each tool call, by call id."""
    return {
        str(part.get("tool_call_id")): describe_call(str(part.get("tool_name")), _arguments(part.get("args")))
        for part in _parts(response)
        if part.get("part_kind") == "tool-call"
    }


def _parts(response: object) -> list[dict[str, object]]:
    parts = cast("dict[str, object]", response).get("parts") if isinstance(response, dict) else None
    return cast("list[dict[str, object]]", parts) if isinstance(parts, list) else []


def _arguments(arguments: object) -> object:
    """A model gives arguments as an object, or as its JSON text, possibly broken."""
    if not isinstance(arguments, str):
        return arguments
    try:
        parsed: object = json.loads(arguments)
    except ValueError:
        return {}
    return parsed
