"""What each MCP server of an agent offers: looked up in the log, else asked of it, and written down."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from pydantic_ai.toolsets import AbstractToolset

from agent_runner.errors import ExecutionFailure
from agent_runner.journal.kinds import SERVER_PREFIX, TOOLS_LISTED, StepKey
from agent_runner.journal.steps import StepJournal
from agent_runner.mcp_servers.faults import ServerUnavailable
from agent_runner.mcp_servers.servers import McpServers
from agent_runner.mcp_servers.tool_list import ToolList
from agent_runner.workspace import SessionWorkspace
from stigmer_contract.api import LegGrant
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import StepFinished
from stigmer_contract.manifest import AgentSpec

logger = logging.getLogger(__name__)

MAX_AT_ONCE: Final = 4
"""Servers that are started at the same time."""


@asynccontextmanager
async def open_mcp_toolsets(
    journal: StepJournal, grant: LegGrant, workspace: SessionWorkspace
) -> AsyncGenerator[Sequence[AbstractToolset[None]]]:
    """The toolsets of an agent's MCP servers; at the end all of these that were started have ended.

    Raises:
        ExecutionFailure: a server whose list nobody has yet cannot be asked.
    """
    spec = grant.spec
    if not spec.mcp_servers:
        yield []
        return
    from agent_runner.toolsets.mcp import mcp_toolset

    timeout_seconds = spec.limits.tool_timeout.total_seconds()
    servers = McpServers(spec.mcp_servers, grant.secrets, workspace, timeout_seconds)
    try:
        lists = await _open_tool_lists(journal, spec, servers)
        yield [mcp_toolset(server, lists[server.name], servers) for server in spec.mcp_servers]
    finally:
        await servers.close()


async def _open_tool_lists(journal: StepJournal, spec: AgentSpec, servers: McpServers) -> dict[str, ToolList]:
    """The list of each server, by its name."""
    at_once = asyncio.Semaphore(MAX_AT_ONCE)

    async def listed(name: str) -> ToolList:
        place = StepKey("", TOOLS_LISTED, f"{SERVER_PREFIX}{name}", 1)
        known = journal.parts.recorded.results.get(place)
        if isinstance(known, StepFinished) and known.result is not None:
            return ToolList.model_validate(await journal.parts.bodies.load_value(known.result))
        async with at_once, journal.parts.gate.step():
            started = time.monotonic()
            try:
                found = await servers.list_tools(name)
            except ServerUnavailable as error:
                raise ExecutionFailure(
                    ErrorCode.MCP_SERVER_UNAVAILABLE,
                    str(error),
                    "see that the server can be started on the runner, then retry the execution",
                ) from error
            value = await journal.clean(found.model_dump(mode="json"))
            journal.write(
                StepFinished(
                    kind=TOOLS_LISTED,
                    key=place.key,
                    digest=found.digest,
                    result=await journal.parts.bodies.store_value(value),
                    duration_seconds=round(time.monotonic() - started, 6),
                )
            )
        for tool, why in found.left_out.items():
            logger.warning("MCP server %s: tool %r is left out: %s", name, tool, why)
        return ToolList.model_validate(value)

    try:
        async with asyncio.TaskGroup() as tasks:
            listing = {server.name: tasks.create_task(listed(server.name)) for server in spec.mcp_servers}
    except BaseExceptionGroup as errors:
        # pydantic-ai and the leg know what one error means.
        raise errors.exceptions[0] from None
    return {name: task.result() for name, task in listing.items()}
