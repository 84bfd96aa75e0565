"""Resources of a server as two tools of ours: what there is, and what one of them holds.

They stand among the server's own tools, pinned and called as those are, and only read. A server that has a
tool of that name keeps it.
"""

from collections.abc import Mapping
from typing import Any, Final

import mcp_types as types
from mcp.client import ClientSession
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, JsonValue

from stigmer_contract.tool_lists import MAX_TOOLS, ListedTool, ToolList

LIST_RESOURCES: Final = "list_resources"
READ_RESOURCE: Final = "read_resource"
MAX_RESOURCES: Final = 1000
MAX_PAGES: Final = 20
MAX_LINE_CHARACTERS: Final = 500
_TOOLS: Final = (
    ListedTool(
        name=LIST_RESOURCES,
        description="List what this server has to read: addresses, and templates of addresses, one a line.",
        input_schema={"type": "object", "properties": {}},
        is_ours=True,
    ),
    ListedTool(
        name=READ_RESOURCE,
        description="Read a resource of this server by its address, such as list_resources gives it.",
        input_schema={
            "type": "object",
            "properties": {"uri": {"type": "string", "description": "The resource's address (URI)."}},
            "required": ["uri"],
        },
        is_ours=True,
    ),
)


def with_resources(tools: ToolList, capabilities: types.ServerCapabilities | None) -> ToolList:
    """The list with what reads the server's resources, where it has any."""
    if capabilities is None or capabilities.resources is None:
        return tools
    taken = {tool.name for tool in tools.tools} | tools.left_out.keys()
    more = [tool for tool in _TOOLS if tool.name not in taken][: MAX_TOOLS - len(tools.tools)]
    in_order = sorted((*tools.tools, *more), key=lambda tool: tool.name)
    return tools.model_copy(update={"tools": in_order})


async def list_resources(session: ClientSession) -> dict[str, JsonValue]:
    """What there is, as a tool's result: a line for each; bounded."""
    lines = list[str]()
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await session.list_resources(params=_page(cursor))
        lines += [_line(each.uri, each.name, each.mime_type, each.description) for each in page.resources]
        cursor = page.next_cursor
        if not cursor or len(lines) > MAX_RESOURCES:
            break
    lines += await _templates(session)
    more = len(lines) - MAX_RESOURCES
    kept = lines[:MAX_RESOURCES] + ([f"({more} further ones are left out)"] if more > 0 else [])
    return {"content": [{"type": "text", "text": "\n".join(kept) or "the server lists no resources"}]}


async def read_resource(
    session: ClientSession,
    arguments: Mapping[str, JsonValue],
    answers: types.InputResponses | None,
    state: str | None,
) -> dict[str, JsonValue]:
    """What a resource holds, as a tool's result; or what the server asks first, in the protocol's words."""
    result = await session.read_resource(
        str(arguments["uri"]), input_responses=answers, request_state=state, allow_input_required=True
    )
    if isinstance(result, types.InputRequiredResult):
        return _dumped(result)
    return {"content": [{"type": "resource", "resource": _dumped(each)} for each in result.contents]}


async def _templates(session: ClientSession) -> list[str]:
    try:
        found = await session.list_resource_templates()
    except MCPError as error:
        if error.error.code != types.METHOD_NOT_FOUND:
            raise
        return []  # few servers have any
    return [
        _line(f"template {each.uri_template}", each.name, each.mime_type, each.description)
        for each in found.resource_templates
    ]


def _page(cursor: str | None) -> types.PaginatedRequestParams | None:
    return None if cursor is None else types.PaginatedRequestParams(cursor=cursor)


def _line(address: str, name: str, media_type: str | None, about: str | None) -> str:
    kind = f" ({media_type})" if media_type else ""
    said = " ".join(f"{address} {name}{kind}{': ' if about else ''}{about or ''}".split())
    return said[:MAX_LINE_CHARACTERS]


def _dumped(value: BaseModel) -> dict[str, Any]:
    return value.model_dump(mode="json", by_alias=True, exclude_none=True)
