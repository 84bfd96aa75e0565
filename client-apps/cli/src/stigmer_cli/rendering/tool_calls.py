"""One line for a tool call and one for how it ended, from the journal's JSON."""

import json
import re
from dataclasses import dataclass
from typing import cast

from stigmer_contract.events import ToolFinished, ToolOutcome

_MAIN_ARGUMENTS = ("command", "path", "file_path", "pattern", "query", "url", "name")
_EXIT_CODE = re.compile(r"\[exit code: (-?\d+)\]\s*\Z")


@dataclass(frozen=True)
class ToolEnding:
    """How a call ended."""

    mark: str
    is_good: bool
    detail: str
    """Empty where the mark says it all."""


def describe_call(tool: str, arguments: object) -> str:
    """The tool and its main argument, in one line."""
    values = cast("dict[str, object]", arguments) if isinstance(arguments, dict) else {}
    candidates = [values[name] for name in _MAIN_ARGUMENTS if name in values] or list(values.values())
    main = next((value for value in candidates if isinstance(value, str | int | float)), "")
    return " ".join(f"{tool} {main}".split())


def describe_ending(event: ToolFinished, result: object) -> ToolEnding:
    """The mark and the reason of a finished call.

    Args:
        result: the value of `event.result`, pydantic-ai's `CallToolResult` as JSON.
    """
    text = result_text(result)
    match event.outcome:
        case ToolOutcome.SUCCEEDED:
            if code := _EXIT_CODE.search(text):
                return ToolEnding("✗", False, f"exit code {code.group(1)}")
            return ToolEnding("✓", True, "")
        case ToolOutcome.RETRY:
            return ToolEnding("↻", False, _first_line(text) or "to be corrected")
        case ToolOutcome.FAILED:
            return ToolEnding("✗", False, _first_line(text) or "failed")
        case ToolOutcome.UNKNOWN:
            return ToolEnding("?", False, "outcome unknown: its runner ended while it ran")


def result_text(result: object) -> str:
    """What the model was told, as text; for arguments that were refused, what is wrong with them."""
    if not isinstance(result, dict):
        return _as_text(result)
    recorded = cast("dict[str, object]", result)
    match recorded.get("kind"):
        case "tool_return" | "tool_content_result":
            value = recorded.get("result")
            if isinstance(value, dict):  # pydantic-ai's ToolReturn, or the tool's own object
                value = cast("dict[str, object]", value).get("return_value", cast("object", value))
            return _as_text(value)
        case "validation_error":
            errors = cast("list[dict[str, object]]", recorded.get("errors") or [{}])
            place = ".".join(str(part) for part in cast("list[object]", errors[0].get("loc") or []))
            return f"bad arguments: {place}: {errors[0].get('msg', '')}"
        case _:
            return _as_text(recorded.get("message", recorded))


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _first_line(text: str) -> str:
    stripped = text.strip()
    return stripped.splitlines()[0] if stripped else ""
