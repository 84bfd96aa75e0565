"""What a model says as a tool's arguments is read in linear time, whatever it says."""

import pytest

from agent_runner.models.tool_calls import whole_arguments

MANY = 300_000


@pytest.mark.parametrize(
    "text",
    ["```" + " " * MANY, "```json\n" + "\n" * MANY + "x", "`" * MANY, '"' * MANY, "{" * MANY, "[{" * MANY,
     "<|" * MANY, "```{}```" * (MANY // 8)],
    ids=["spaces in a fence", "lines in a fence", "fences", "quotes", "braces", "lists", "tokens", "fenced"],
)  # fmt: skip
def test_hostile_arguments_hold_nobody_up(text: str) -> None:
    # What is not bounded takes more than the five minutes that a test may take. `strip` is the caller's.
    assert whole_arguments([text]) == [text.strip()]


@pytest.mark.parametrize(
    "text",
    ['```json\n{"a": 1}\n```', '```\n {"a": 1}```', '```json\n"{\\"a\\": 1}"\n```', '``````{"a": 1}``````'],
)
def test_arguments_in_a_fence_are_taken_out_of_it(text: str) -> None:
    assert whole_arguments([text]) == ['{"a": 1}']
