"""What MCP servers offer, as it is written down, pinned and compared. Pure.

It came from outside: the runner that asked has bounded it (`agent_runner.mcp_servers.tool_list`).
"""

import difflib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from stigmer_contract.manifest_mcp import McpServer

MAX_TOOLS: Final = 1000
"""Of one server; further ones are left out."""
MAX_LIST_BYTES: Final = 2 << 20
"""Of a server's whole list, as JSON."""
_DIGEST: Final = r"^[0-9a-f]{32}$"
_MAX_DIFFERENCE_LINES: Final = 40


class ListedTool(BaseModel):
    """One tool as its server describes it."""

    model_config = ConfigDict(frozen=True)

    name: str
    description: str = ""
    input_schema: dict[str, JsonValue]
    """As written."""
    annotations: dict[str, JsonValue] = {}
    """`readOnlyHint`, `destructiveHint`, `idempotentHint`, `title`, …; the server's own word."""
    is_ours: bool = Field(default=False, exclude_if=lambda value: not value)
    """Whether it is no tool of the server's but what reads its resources."""

    @property
    def digest(self) -> str:
        """Tells it from one that is described otherwise."""
        return digest_of(self.model_dump(mode="json"))


class ToolList(BaseModel):
    """All tools of a server, by name."""

    model_config = ConfigDict(frozen=True)

    server: str
    tools: list[ListedTool] = Field(max_length=MAX_TOOLS)
    left_out: dict[str, str] = {}
    """Why a tool is not among them, by name."""
    protocol: str = ""
    """The version of the protocol that was agreed on."""

    @property
    def digest(self) -> str:
        """Tells it from another list of the same server."""
        return digest_of([tool.digest for tool in self.tools])

    def named(self, tool: str) -> ListedTool | None:
        """The tool of that name."""
        return next((each for each in self.tools if each.name == tool), None)


@dataclass(frozen=True)
class ListDifference:
    """How what a server offers now differs from what was pinned; names of tools, sorted."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def compare_lists(pinned: ToolList, found: ToolList) -> ListDifference:
    """What is different in what was found."""
    before = {tool.name: tool for tool in pinned.tools}
    after = {tool.name: tool for tool in found.tools}
    return ListDifference(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(sorted(name for name in after.keys() & before.keys() if after[name] != before[name])),
    )


def describe_difference(pinned: ToolList, found: ToolList) -> Iterator[str]:
    """Lines for a person who is to accept what is new. The texts are the server's own: untrusted."""
    difference = compare_lists(pinned, found)
    for name in difference.removed:
        yield f"- {name}"
    for name in difference.added:
        tool = found.named(name)
        yield f"+ {name}: {'' if tool is None else tool.description}"
    for name in difference.changed:
        yield f"~ {name}"
        before, after = pinned.named(name), found.named(name)
        if before is not None and after is not None:
            yield from (f"    {line}" for line in _tool_difference(before, after))


def _tool_difference(before: ListedTool, after: ListedTool) -> Iterator[str]:
    lines = difflib.unified_diff(_lines_of(before), _lines_of(after), lineterm="", n=1)
    # Without the heading, which names files.
    shown = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    yield from shown[:_MAX_DIFFERENCE_LINES]
    if len(shown) > _MAX_DIFFERENCE_LINES:
        yield f"({len(shown) - _MAX_DIFFERENCE_LINES} further lines)"


def _lines_of(tool: ListedTool) -> list[str]:
    schema = json.dumps(tool.input_schema, indent=2, sort_keys=True, ensure_ascii=False)
    annotations = [f"{name}: {value}" for name, value in sorted(tool.annotations.items())]
    return [*tool.description.splitlines(), *annotations, *schema.splitlines()]


def server_digest(server: McpServer) -> str:
    """Tells a server from one that is started or reached otherwise, whose tools may be others."""
    what = {"name", "command", "url", "env", "headers"}
    if server.package is not None:
        what |= {"package", "args"}
    fields = server.model_dump(mode="json", by_alias=True, include=what)
    return digest_of(fields)


def digest_of(value: Any) -> str:
    """The first 32 hexadecimal digits of a SHA-256 over the value's JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]


class ToolPins(BaseModel):
    """Answer of `GET /v1/executions/{id}/tool-pins`: what a runner holds MCP servers to."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    pins: dict[str, ToolList]
    """By the server's name; without those that nobody has listed yet."""


class ReportTools(BaseModel):
    """`PUT /v1/executions/{id}/tool-pins/{server}`: what a runner found that a server offers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tool_list: str = Field(max_length=MAX_LIST_BYTES)
    """JSON of a `ToolList`, as text: it may have more members than a body of ours."""


class PinnedServer(BaseModel):
    """What is known of one MCP server of an applied agent, for the caller."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    server: str
    pin: bool
    """Whether tools that changed are refused until they are accepted."""
    pinned: ToolList | None = None
    """None: nobody has listed them yet."""
    found: ToolList | None = None
    """What a runner found since, where that is something else and waits to be accepted."""


class AgentTools(BaseModel):
    """Answer of `GET /v1/agents/{name}/tool-pins`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    servers: list[PinnedServer]


class AcceptTools(BaseModel):
    """`POST /v1/agents/{name}/tool-pins/{server}/accept`: pin what was found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    digest: str = Field(pattern=_DIGEST)
    """Of the list that was looked at: another one is not accepted."""
