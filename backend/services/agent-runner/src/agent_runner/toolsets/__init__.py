"""What an agent can do: one file for each toolset, and the catalogue of them."""

from agent_runner.toolsets.ask_user import Asker, Told, asker
from agent_runner.toolsets.call_in_hand import CallInHand, call_in_hand
from agent_runner.toolsets.catalogue import CATALOGUE, DESCRIBED, ToolsetEntry, ToolsetRequest
from agent_runner.toolsets.command_output import cut_middle
from agent_runner.toolsets.facts import DeclaredToolset, OrderedToolset, ToolFacts, facts_of
from agent_runner.toolsets.middle_of_call import MiddleOfCall, middle_of_call
from agent_runner.toolsets.session_tools import SessionTools, session_tools
from agent_runner.toolsets.shell import COMMAND_TOOL
from agent_runner.toolsets.skills import skills_catalogue
from agent_runner.toolsets.wait import Waited, Waiter, waiter

__all__ = [
    "CATALOGUE",
    "COMMAND_TOOL",
    "DESCRIBED",
    "Asker",
    "CallInHand",
    "DeclaredToolset",
    "MiddleOfCall",
    "OrderedToolset",
    "SessionTools",
    "Told",
    "ToolFacts",
    "ToolsetEntry",
    "ToolsetRequest",
    "Waited",
    "Waiter",
    "asker",
    "call_in_hand",
    "cut_middle",
    "facts_of",
    "middle_of_call",
    "session_tools",
    "skills_catalogue",
    "waiter",
]
