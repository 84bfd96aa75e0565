"""One line for a tool call and one for how it ended."""

import re
from dataclasses import dataclass
from typing import cast

from stigmer_contract.conversation import ModelAnswer, ToolOutcome, ToolResult
from stigmer_contract.events import ToolFinished

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


def describe_calls(answer: ModelAnswer) -> dict[str, str]:
    """One line for each tool call of an answer, by call id."""
    return {call.call_id: describe_call(call.tool, call.arguments) for call in answer.tool_calls}


def describe_ending(event: ToolFinished, result: object) -> ToolEnding:
    """The mark and the reason of a finished call.

    Args:
        result: the value of `event.result`.
    """
    told = ToolResult.model_validate(result)
    match event.outcome:
        case ToolOutcome.SUCCEEDED:
            if code := _EXIT_CODE.search(told.text):
                return ToolEnding("✗", False, f"exit code {code.group(1)}")
            return ToolEnding("✓", True, "")
        case ToolOutcome.UNKNOWN:
            return ToolEnding("?", False, "outcome unknown: its runner ended while it ran")
        case ToolOutcome.INVALID if told.problems:
            first = told.problems[0]
            place = f"{first.path}: " if first.path else ""
            return ToolEnding("↻", False, f"bad arguments: {place}{first.problem}")
        case outcome:
            mark = "↻" if told.correctable else "✗"
            return ToolEnding(mark, False, _first_line(told.text) or outcome.value)


def _first_line(text: str) -> str:
    stripped = text.strip()
    return stripped.splitlines()[0] if stripped else ""
