"""One line for a tool call and one for how it ended."""

import re
from dataclasses import dataclass
from typing import cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from stigmer_contract.conversation import ArgumentProblem, ModelAnswer, ToolOutcome, ToolResult
from stigmer_contract.events import ToolFinished

_MAIN_ARGUMENTS = ("command", "path", "file_path", "pattern", "query", "url", "name")
_ENDING = re.compile(r"\[([^\[\]\n]+)\]\s*\Z")
"""What a command's result says last of how it ended."""
_EXIT_CODE = re.compile(r"exit code: (-?\d+)")


class _PydanticError(BaseModel):
    loc: list[str | int]
    msg: str


_ERRORS = TypeAdapter(list[_PydanticError])


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
            if code := _exit_code(told.text):
                return ToolEnding("✗", False, code)
            return ToolEnding("✓", True, "")
        case ToolOutcome.UNKNOWN:
            return ToolEnding("?", False, "outcome unknown: it was cut off while it ran")
        case ToolOutcome.INVALID if problems := told.problems or _problems_in(told.text):
            first = problems[0]
            place = f"{first.path}: " if first.path else ""
            return ToolEnding("↻", False, f"bad arguments: {place}{first.problem}")
        case outcome:
            mark = "↻" if told.correctable else "✗"
            detail = _exit_code(told.text) or _ending(told.text) or _first_line(told.text)
            return ToolEnding(mark, False, detail or outcome.value)


def _ending(text: str) -> str:
    return match[1] if (match := _ENDING.search(text)) else ""


def _exit_code(text: str) -> str:
    match = _EXIT_CODE.fullmatch(_ending(text))
    return f"exit code {match[1]}" if match else ""


def _problems_in(text: str) -> list[ArgumentProblem]:
    """What pydantic-ai tells a model of arguments that do not fit: a JSON list of pydantic's errors."""
    try:
        errors = _ERRORS.validate_json(text)
    except ValidationError:
        return []
    return [ArgumentProblem(path=".".join(map(str, error.loc)), problem=error.msg) for error in errors]


def _first_line(text: str) -> str:
    stripped = text.strip()
    return stripped.splitlines()[0] if stripped else ""
