"""What is said of a model whose answers are of no use, in one line."""

import re
from typing import Final

from pydantic_ai.exceptions import AgentRunError

from agent_runner.models.model_faults import one_line

_NO_ANSWER: Final = re.compile(r"Exceeded maximum output retries \((\d+)\)")
"""pydantic-ai 2.68, `_agent_graph`: the model was asked once more each time."""


def describe_unusable(error: AgentRunError, *, has_schema: bool = False) -> str:
    """The reason for which an agent's run was given up; `has_schema`: its answer had to be of a form."""
    text = one_line(str(error))
    if (match := _NO_ANSWER.search(text)) is not None:
        tries = int(match[1]) + 1
        if has_schema:
            return f"the model answered {tries} times with nothing that the schema accepts"
        return f"the model answered {tries} times in a row with neither text nor a tool call that can be made"
    return f"the model's answers could not be used: {text}"
