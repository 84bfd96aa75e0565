"""What an agent can do: one file for each toolset, and the catalogue of them."""

from agent_runner.toolsets.catalogue import CATALOGUE, ToolsetEntry, ToolsetRequest, has_side_effects
from agent_runner.toolsets.session_tools import SessionTools, session_tools
from agent_runner.toolsets.shell import COMMAND_TOOL

__all__ = [
    "CATALOGUE",
    "COMMAND_TOOL",
    "SessionTools",
    "ToolsetEntry",
    "ToolsetRequest",
    "has_side_effects",
    "session_tools",
]
