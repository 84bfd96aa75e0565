"""Executions that ask no model: they look at the tools of an agent, or call one for a person."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from stigmer_contract.conversation import ToolResult
from stigmer_contract.manifest_mcp import MAX_SERVERS, MAX_TOOL_NAME_CHARACTERS
from stigmer_contract.manifest_parts import DNS_LABEL


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Read(BaseModel):
    # A newer runner may say more than this reader knows.
    model_config = ConfigDict(extra="ignore", frozen=True)


class CalledTool(_Frozen):
    """A tool of an MCP server, and what it is called with."""

    server: str = Field(pattern=DNS_LABEL)
    tool: str = Field(min_length=1, max_length=MAX_TOOL_NAME_CHARACTERS)
    """As the server names it."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])


class Inspection(_Frozen):
    """What such an execution does. Its output is an `InspectionReport`."""

    servers: list[str] | None = Field(default=None, max_length=MAX_SERVERS)
    """MCP servers that are started and asked what they offer; None: all of the agent's."""
    call: CalledTool | None = None
    """A tool that is called; then nothing is listed but what its server offers."""


class ShownTool(_Read):
    """A tool as a model is shown it, and what is held of it."""

    toolset: str
    """Of a built-in one its name, of an MCP server that server's name."""
    tool: str
    """As rules and logs call it."""
    shown_as: str
    """As the model calls it."""
    description: str
    parameters: dict[str, JsonValue]
    tokens: int
    """What it takes of each request, estimated."""
    side_effects: bool
    may_repeat: bool
    """Whether a call may be made again where nobody knows what became of it."""
    approval: list[str]
    """The rules that a call is held against, in order, such as `ask when git push*`; empty: it runs."""


class InspectedServer(_Read):
    """An MCP server, and whether it could be asked."""

    server: str
    error: str | None = None
    """Why not, in one line."""
    protocol: str = ""
    tools: int = 0
    """How many it offers, those included that the agent does not get."""
    left_out: dict[str, str] = {}
    """Why a tool is not among them, by name."""
    seconds: float = 0.0
    """From its start to its list."""


class InspectionReport(_Read):
    """What an inspection found."""

    version: Literal[1] = 1
    servers: list[InspectedServer] = []
    tools: list[ShownTool] = []
    result: ToolResult | None = None
    """Of the call."""
