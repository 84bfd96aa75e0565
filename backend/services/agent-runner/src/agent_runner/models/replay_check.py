"""Finds the turn of a cassette that answers a conversation, and checks that the conversation still fits.

Pure. A turn with an expected prompt begins an execution. A cassette that begins one execution at most is
played from its start in every execution, wherever that stands in its session; a cassette that begins
several covers a session, so its second execution is the session's second.
"""

import difflib
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, cast

from pydantic import JsonValue
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_core import to_jsonable_python

from agent_runner.errors import ExecutionFailure
from agent_runner.linear_patterns import InvalidPattern, compile_pattern
from agent_runner.models.notes import is_file_note, told_in
from stigmer_contract.cassette import Cassette, ExpectedResult
from stigmer_contract.error_codes import ErrorCode

MAX_DIFFERENCE_LINES: Final = 40
MAX_LINE_CHARACTERS: Final = 200


def shorten_name(name: str) -> str:
    """A cassette's name for a message: of `sha256:<hex>` the beginning, a path as it is."""
    kind, colon, digest = name.partition(":")
    return f"{kind}:{digest[:12]}…" if colon and kind == "sha256" else name


def find_turn(name: str, cassette: Cassette, messages: Sequence[ModelMessage]) -> int:
    """Index of the turn that comes next.

    Args:
        name: what the person calls the cassette.
        cassette: the recorded conversation.
        messages: the whole conversation, as a model gets it.

    Raises:
        ExecutionFailure: with `REPLAY_MISMATCH`, the difference and the turn in its message: the cassette
            has no further turn, or expects something else.
    """
    starts = _starts_of_executions(messages)
    place_in_execution = sum(
        isinstance(message, ModelResponse) for message in messages[starts[-1] if starts else 0 :]
    )
    sections = _sections(cassette)
    section_index = 0 if len(sections) == 1 else max(len(starts) - 1, 0)
    if section_index >= len(sections):
        raise _mismatch(
            name,
            f"it covers a session of {len(sections)} executions, and this is execution {section_index + 1}",
        )
    section = sections[section_index]
    if place_in_execution >= len(section):
        raise _mismatch(
            name,
            f"it ends with turn {section.stop} here, and the conversation goes on",
            _told_since_last_answer(messages),
        )
    index = section[place_in_execution]
    _check_expectation(name, cassette, index, messages)
    return index


def _sections(cassette: Cassette) -> list[range]:
    """The turns of each execution."""
    begins = [0] + [
        index
        for index, turn in enumerate(cassette.turns)
        if index > 0 and turn.expect is not None and turn.expect.begins_execution
    ]
    return [range(start, end) for start, end in pairwise([*begins, len(cassette.turns)])]


def _starts_of_executions(messages: Sequence[ModelMessage]) -> list[int]:
    """Where a person's prompt begins an execution.

    Within a run, pydantic-ai puts its own reminders into the conversation as the person's words; those
    follow an answer of the same run.
    """
    starts: list[int] = []
    answered: set[str] = set()
    for index, message in enumerate(messages):
        if isinstance(message, ModelResponse):
            if message.run_id is not None:
                answered.add(message.run_id)
        elif message.run_id not in answered and any(
            isinstance(part, UserPromptPart) and told_in(part) is None for part in message.parts
        ):
            starts.append(index)
    return starts


# --- the check --------------------------------------------------------------------------------


def _check_expectation(name: str, cassette: Cassette, index: int, messages: Sequence[ModelMessage]) -> None:
    expect = cassette.turns[index].expect
    if expect is None:
        return
    where = f"turn {index + 1}"
    if expect.results is not None:
        _check_results(name, where, expect.results, messages)
        return
    prompt = _prompt_of(messages)
    if prompt is None:
        raise _mismatch(
            name, f"{where} answers a prompt, but there is none", _told_since_last_answer(messages)
        )
    if expect.prompt_matches is not None:
        _check_pattern(name, f"{where}: the prompt", expect.prompt_matches, prompt)
    elif expect.prompt is not None:
        _check_equal(name, f"{where}: the prompt", expect.prompt, prompt)


def _check_results(
    name: str, where: str, expected: list[ExpectedResult], messages: Sequence[ModelMessage]
) -> None:
    results = _results_of(messages)
    expected_tools = [result.tool for result in expected]
    tools = [part.tool_name for part in results]
    if tools != expected_tools:
        raise _mismatch(
            name,
            f"{where}: results of other tools",
            _difference("\n".join(expected_tools), "\n".join(tools)),
        )
    for place, (wanted, part) in enumerate(zip(expected, results, strict=True), start=1):
        what = f"{where}: result {place}, of tool {wanted.tool!r},"
        content = _content_of(part)
        if wanted.result_matches is not None:
            _check_pattern(name, what, wanted.result_matches, _as_text(content))
        elif wanted.is_exact:
            _check_equal(name, what, wanted.result, content)


def _check_equal(name: str, what: str, expected: JsonValue, got: JsonValue) -> None:
    if _comparable(expected) != _comparable(got):
        raise _mismatch(name, f"{what} differs", _difference(_as_text(expected), _as_text(got)))


def _check_pattern(name: str, what: str, pattern: str, text: str) -> None:
    try:
        compiled = compile_pattern(pattern, dot_is_any=True)
    except InvalidPattern as error:
        raise ExecutionFailure(
            ErrorCode.REPLAY_MISMATCH,
            f"cassette {shorten_name(name)!r}: {what}: the pattern {pattern!r} cannot be used: {error}",
            "write it without look-around and back-references: patterns run in linear time",
        ) from error
    # A lone surrogate is no text that RE2 could read.
    if compiled.search(text.encode("utf-8", errors="replace")) is None:
        raise _mismatch(name, f"{what} does not match {pattern!r}", _bounded(text.splitlines()))


def _comparable(value: JsonValue) -> JsonValue:
    return value.rstrip("\r\n") if isinstance(value, str) else value


# --- what the conversation says ---------------------------------------------------------------


def _prompt_of(messages: Sequence[ModelMessage]) -> str | None:
    """The text of the person's message that came last, if no answer has followed it."""
    last = messages[-1]
    # What a note of ours says (a date, what is left of limits) is no part of what was recorded.
    prompts = [part for part in last.parts if isinstance(part, UserPromptPart) and told_in(part) is None]
    if not isinstance(last, ModelRequest) or not prompts:
        return None
    content = prompts[-1].content
    if isinstance(content, str):
        return content
    # The person's words; files that came with them stand behind, and are not recorded.
    if isinstance(content[0], str) and any(map(is_file_note, content)):
        return content[0]
    return "".join(item if isinstance(item, str) else f"[{type(item).__name__}]" for item in content)


def _results_of(messages: Sequence[ModelMessage]) -> list[ToolReturnPart]:
    """The results that the last request holds, in the order of the calls."""
    order = {
        part.tool_call_id: place
        for message in messages
        if isinstance(message, ModelResponse)
        for place, part in enumerate(message.parts)
        if isinstance(part, ToolCallPart)
    }
    results = [part for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
    return sorted(results, key=lambda part: order.get(part.tool_call_id, len(order)))


def _content_of(part: ToolReturnPart) -> JsonValue:
    return cast("JsonValue", to_jsonable_python(part.content, fallback=repr))


def _told_since_last_answer(messages: Sequence[ModelMessage]) -> str:
    """For a person: what the last request holds."""
    results = [
        f"result of tool {part.tool_name!r}: {_as_text(_content_of(part))}" for part in _results_of(messages)
    ]
    prompt = _prompt_of(messages)
    return _bounded("\n".join([*results, *([f"prompt: {prompt}"] if prompt else [])]).splitlines())


# --- the difference, in words -----------------------------------------------------------------


def _mismatch(name: str, problem: str, difference: str = "") -> ExecutionFailure:
    message = f"the conversation no longer matches the cassette {shorten_name(name)!r}: {problem}"
    return ExecutionFailure(
        ErrorCode.REPLAY_MISMATCH,
        f"{message}\n{difference}" if difference else message,
        "record the cassette again with `stigmer run --record FILE`, or edit what it expects",
    )


def _as_text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _difference(expected: str, got: str) -> str:
    lines = difflib.unified_diff(
        expected.splitlines(), got.splitlines(), "in the cassette", "now", lineterm="", n=2
    )
    return _bounded(list(lines))


def _bounded(lines: Sequence[str]) -> str:
    shown = [
        line if len(line) <= MAX_LINE_CHARACTERS else f"{line[: MAX_LINE_CHARACTERS - 1]}…"
        for line in lines[:MAX_DIFFERENCE_LINES]
    ]
    if len(lines) > MAX_DIFFERENCE_LINES:
        shown.append(f"… and {len(lines) - MAX_DIFFERENCE_LINES} more lines")
    return "\n".join(shown)
