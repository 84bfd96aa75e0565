"""Reads what a server offers, bounded: names, descriptions, schemas, annotations. Pure.

It comes from outside: what is too large, or is no schema, is left out with the reason.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from pydantic import JsonValue

from stigmer_contract.json_levels import levels_of
from stigmer_contract.manifest_mcp import McpServer
from stigmer_contract.tool_lists import MAX_LIST_BYTES, MAX_TOOLS, ListedTool, ToolList

MAX_SCHEMA_BYTES: Final = 64 * 1024
MAX_SCHEMA_DEPTH: Final = 64
MAX_DESCRIPTION_CHARACTERS: Final = 16_000
MAX_LEFT_OUT: Final = 100
"""Tools of which it is kept why they are left out."""


def read_tools(server: str, listed: Sequence[JsonValue], protocol: str) -> ToolList:
    """The list from what a server answered, sorted by name so that its order means nothing."""
    tools, left_out, room = dict[str, ListedTool](), dict[str, str](), MAX_LIST_BYTES // 2
    for entry in listed:
        fields = entry if isinstance(entry, dict) else {}
        name, schema = fields.get("name"), fields.get("inputSchema")
        if not isinstance(name, str) or not 0 < len(name) <= 256:
            left_out[str(name)[:80]] = "it has no usable name"
            continue
        problem = _problem_of(schema)
        if len(tools) >= MAX_TOOLS:
            problem = f"the server lists more than {MAX_TOOLS}"
        if name in tools:
            problem = "the server lists it twice"
        if problem is not None:
            left_out[name] = problem
            continue
        description, annotations = fields.get("description"), fields.get("annotations")
        tool = ListedTool(
            name=name,
            description=description[:MAX_DESCRIPTION_CHARACTERS] if isinstance(description, str) else "",
            input_schema=cast("dict[str, JsonValue]", schema),
            annotations=annotations if isinstance(annotations, dict) else {},
        )
        room -= len(tool.model_dump_json().encode())
        if room < 0:
            left_out[name] = f"the server's list is larger than {MAX_LIST_BYTES // 2 >> 10} KiB"
            continue
        tools[name] = tool
    in_order = [tools[name] for name in sorted(tools)]
    named = dict(list(left_out.items())[:MAX_LEFT_OUT])
    return ToolList(server=server, tools=in_order, left_out=named, protocol=protocol)


def _problem_of(schema: JsonValue) -> str | None:
    if not isinstance(schema, dict):
        return "its schema is no JSON object"
    if depth_of(schema) > MAX_SCHEMA_DEPTH:
        return f"its schema is more than {MAX_SCHEMA_DEPTH} levels deep"
    if len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
        return f"its schema is larger than {MAX_SCHEMA_BYTES >> 10} KiB"
    return None


def depth_of(value: JsonValue, limit: int = MAX_SCHEMA_DEPTH + 1) -> int:
    """How many levels of lists and objects there are, as far as the limit."""
    depth = 0
    for level in levels_of(value):
        if depth >= limit or not any(isinstance(each, (dict, list)) for each in level):
            break
        depth += 1
    return depth


@dataclass(frozen=True)
class SideEffects:
    """What is held of a tool, by the manifest and its server's word."""

    reads_only: bool
    may_repeat: bool
    """Whether a call whose outcome nobody knows may be made once more."""


def side_effects_of(server: McpServer, tool: ListedTool) -> SideEffects:
    """What holds: the manifest's word, and the server's where the manifest trusts it."""
    if tool.is_ours:
        return SideEffects(reads_only=True, may_repeat=True)
    hints = tool.annotations if server.trust_annotations else {}
    reads_only = tool.name in server.read_only or hints.get("readOnlyHint") is True
    may_repeat = tool.name in server.idempotent or hints.get("idempotentHint") is True
    return SideEffects(reads_only=reads_only, may_repeat=reads_only or may_repeat)
