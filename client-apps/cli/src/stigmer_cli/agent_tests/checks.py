"""Decides whether an execution was what a test expects. Asks nobody and runs nothing."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from stigmer_cli.agent_tests.test_file import (
    AgentTest,
    AnswerExpected,
    CallExpected,
    FileExpected,
    LimitsExpected,
)
from stigmer_contract.answer_schemas import find_problem
from stigmer_contract.api import ExecutionResource
from stigmer_contract.manifest_parts import format_duration
from stigmer_contract.phases import ExecutionPhase

SHOWN_CHARACTERS: Final = 300
MAX_FILE_BYTES: Final = 16 << 20
"""Of a file whose content is compared."""


@dataclass(frozen=True)
class Call:
    """A tool call that was made."""

    tool: str
    arguments: JsonValue


@dataclass(frozen=True)
class Ended:
    """How an execution has ended, as far as tests look at it."""

    execution: ExecutionResource
    answer: JsonValue
    """None where there is none."""
    calls: Sequence[Call]
    files: Path
    """The workspace."""
    commands: dict[str, str | None] = field(default_factory=dict[str, str | None])
    """By command: None where it ended with 0, else what it gave."""

    def text_of(self, path: str) -> str | None:
        """What is in a file of the workspace, for a judge; None where there is none that can be read."""
        file = self.files / path
        try:
            # A pipe, which an agent can make too, would be waited for.
            if not _is_within(file, self.files) or not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
                return None
            return file.read_bytes().decode("utf-8", "backslashreplace")
        except OSError:
            return None


def failures(test: AgentTest, ended: Ended) -> list[str]:
    """What does not hold, each in a line or a few; empty: the test has passed."""
    expect = test.expect
    found = list(_phase(expect.phase, ended.execution))
    if ended.execution.phase is ExecutionPhase.COMPLETED:
        found += _answer(expect.answer, ended.answer)
    for each in expect.files:
        found += _file(each, ended.files)
    found += _path(test, ended.calls)
    found += _limits(expect.limits, ended.execution)
    for command in expect.commands:
        said = ended.commands.get(command, "it was not run")
        if said is not None:
            found.append(f"command `{command}` did not end with 0:\n{_shown(said)}")
    return found


def _phase(expected: str, execution: ExecutionResource) -> Iterator[str]:
    if execution.phase.value != expected:
        reason = f": {execution.error.message} ({execution.error.code})" if execution.error else ""
        yield f"the execution is {execution.phase.value}, not {expected}{reason}"


def _answer(expected: AnswerExpected, answer: JsonValue) -> Iterator[str]:
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    if "equals" in expected.model_fields_set and _plain(answer) != _plain(expected.equals):
        yield f"the answer is not {_json(expected.equals)}, but {_json(answer)}"
    yield from _texts("the answer", text, expected.contains, expected.matches)
    if expected.schema_ is not None:
        problem = find_problem(answer, expected.schema_)
        if problem is not None:
            yield f"the answer does not fit the schema: {problem}; it is {_json(answer)}"


def _file(expected: FileExpected, files: Path) -> Iterator[str]:
    path = files / expected.path
    is_there = _is_within(path, files) and path.exists()
    if is_there != expected.exists:
        yield f"file {expected.path!r} is {'there' if is_there else 'not there'}"
        return
    wants_text = expected.equals is not None or expected.contains or expected.matches is not None
    if not is_there or not wants_text:
        return
    if not path.is_file():
        yield f"file {expected.path!r} is no regular file"
        return
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            yield f"file {expected.path!r} is too large to be looked into"
            return
        text = path.read_bytes().decode("utf-8", "backslashreplace")
    except OSError as error:
        yield f"file {expected.path!r} cannot be read: {error.strerror}"
        return
    if expected.equals is not None and _plain(text) != _plain(expected.equals):
        yield f"file {expected.path!r} is not as expected, but:\n{_shown(text)}"
    yield from _texts(f"file {expected.path!r}", text, expected.contains, expected.matches)


def _texts(what: str, text: str, contains: list[str] | str, matches: str | None) -> Iterator[str]:
    for each in [contains] if isinstance(contains, str) else contains:
        if each not in text:
            yield f"{what} does not contain {each!r}; it is:\n{_shown(text)}"
    if matches is not None and not re.search(matches, text, re.DOTALL):
        yield f"{what} does not match {matches!r}; it is:\n{_shown(text)}"


def _path(test: AgentTest, calls: Sequence[Call]) -> Iterator[str]:
    expected = test.expect.path
    made = ", ".join(call.tool for call in calls) or "none"
    for each in expected.calls:
        if not any(_fits(each, call) for call in calls):
            yield f"{_named(each)} was not called; calls: {made}"
    for each in expected.never_calls:
        if any(_fits(each, call) for call in calls):
            yield f"{_named(each)} was called; calls: {made}"
    left = iter(calls)
    for each in expected.order:
        if not any(_fits(each, call) for call in left):
            order = ", ".join(map(_named, expected.order))
            yield f"the calls are not in the order {order}: {_named(each)} is missing there; calls: {made}"
            break


def _fits(expected: CallExpected | str, call: Call) -> bool:
    if isinstance(expected, str):
        return expected == call.tool
    if expected.tool != call.tool:
        return False
    text = json.dumps(call.arguments, ensure_ascii=False)
    return expected.arguments is None or re.search(expected.arguments, text, re.DOTALL) is not None


def _named(expected: CallExpected | str) -> str:
    if isinstance(expected, str):
        return expected
    return expected.tool if expected.arguments is None else f"{expected.tool} with {expected.arguments!r}"


def _limits(expected: LimitsExpected, execution: ExecutionResource) -> Iterator[str]:
    usage = execution.usage
    if expected.turns is not None and usage.requests > expected.turns:
        yield f"it took {usage.requests} turns, more than {expected.turns}"
    if expected.tokens is not None and usage.total_tokens > expected.tokens:
        yield f"it took {usage.total_tokens} tokens, more than {expected.tokens}"
    if expected.cost_usd is not None:
        if usage.cost_usd is None:
            yield f"what it cost is not known, so that it cannot be held to {expected.cost_usd} USD"
        elif usage.cost_usd > expected.cost_usd:
            yield f"it cost {usage.cost_usd} USD, more than {expected.cost_usd}"
    if expected.duration is not None and execution.ended_at is not None:
        took = execution.ended_at - execution.created_at
        if took > expected.duration:
            yield f"it took {took.total_seconds():.1f} s, longer than {format_duration(expected.duration)}"


def _is_within(path: Path, folder: Path) -> bool:
    """Whether a path leads to something in the folder, whatever links an agent has made."""
    return path.resolve().is_relative_to(folder.resolve())


def _plain(value: JsonValue) -> JsonValue:
    return value.rstrip("\r\n") if isinstance(value, str) else value


def _json(value: JsonValue) -> str:
    return _shown(json.dumps(value, ensure_ascii=False))


def _shown(text: str) -> str:
    text = text.rstrip("\n")
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} …"
