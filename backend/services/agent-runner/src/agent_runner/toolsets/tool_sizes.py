"""How much of a request a tool takes, estimated by its bytes. Of built-in and foreign ones alike."""

import json
from typing import Final

from pydantic_ai.tools import ToolDefinition

TOKENS_PER_KILOBYTE: Final = 280
"""Of English text and JSON some 250; where nothing is known, a little more is assumed."""


def tokens_of_tool(tool: ToolDefinition) -> int:
    """The tokens of its name, description and schema."""
    shown = {"name": tool.name, "description": tool.description, "parameters": tool.parameters_json_schema}
    return len(json.dumps(shown).encode()) * TOKENS_PER_KILOBYTE // 1024
