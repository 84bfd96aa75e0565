"""What each MCP server of an agent offers: as the log has it, else as it was pinned, else asked of it.

What a model was shown once stays what it is shown. What a server is then found to offer is held against that
before a tool of it is called.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from pydantic import JsonValue
from pydantic_ai.toolsets import AbstractToolset

from agent_runner.errors import AttemptSuperseded, ExecutionFailure, ServerRefused
from agent_runner.journal.kinds import SERVER_PREFIX, TOOLS_LISTED, StepKey
from agent_runner.journal.steps import StepJournal
from agent_runner.mcp_servers.faults import ServerUnavailable
from agent_runner.mcp_servers.servers import McpServers, TokenOf
from agent_runner.server_client import LegClient
from agent_runner.workspace import SessionWorkspace
from stigmer_contract.api import LegGrant
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import MAX_NAMED_TOOLS, StepFinished, ToolsChanged
from stigmer_contract.inspections import InspectedServer
from stigmer_contract.manifest_mcp import McpServer
from stigmer_contract.mcp_logins import McpToken
from stigmer_contract.tool_lists import ListDifference, ToolList, compare_lists

logger = logging.getLogger(__name__)

MAX_AT_ONCE: Final = 4
"""Servers that are started at the same time."""


@asynccontextmanager
async def open_mcp_toolsets(
    journal: StepJournal,
    grant: LegGrant,
    workspace: SessionWorkspace,
    client: LegClient,
    allowed_hosts: Collection[str],
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

    async with _servers(spec.mcp_servers, journal, grant, workspace, client, allowed_hosts) as (
        lists,
        servers,
    ):
        shown = await lists.open(servers)
        yield [mcp_toolset(server, shown[server.name], servers) for server in spec.mcp_servers]


@asynccontextmanager
async def look_at_servers(
    journal: StepJournal,
    grant: LegGrant,
    workspace: SessionWorkspace,
    client: LegClient,
    names: Sequence[str] | None,
    allowed_hosts: Collection[str],
) -> AsyncGenerator[tuple[Sequence[AbstractToolset[None]], Sequence[InspectedServer]]]:
    """What MCP servers offer now, whatever was pinned: those of these names, else all, are started for that.

    A server that cannot be asked has no toolset, and says why.
    """
    wanted = [server for server in grant.spec.mcp_servers if names is None or server.name in names]
    if not wanted:
        yield [], []
        return
    from agent_runner.toolsets.mcp import mcp_toolset

    opened = _servers(wanted, journal, grant, workspace, client, allowed_hosts)
    async with opened as (lists, servers):
        inspected = [await lists.inspect(servers, server.name) for server in wanted]
        found = [lists.found(each.server) for each in inspected if each.error is None]
        manifests = {server.name: server for server in wanted}
        yield [mcp_toolset(manifests[each.server], each, servers) for each in found], inspected


@asynccontextmanager
async def _servers(
    wanted: Sequence[McpServer],
    journal: StepJournal,
    grant: LegGrant,
    workspace: SessionWorkspace,
    client: LegClient,
    allowed_hosts: Collection[str],
) -> "AsyncGenerator[tuple[_ToolLists, McpServers]]":
    """These servers, of which none runs yet, and their lists; at the end all that were started have ended."""
    lists = _ToolLists(journal, {server.name: server for server in wanted}, client)
    servers = McpServers(
        wanted,
        grant.secrets,
        workspace,
        grant.spec.limits.tool_timeout.total_seconds(),
        lists.take,
        allowed_hosts,
        _tokens(journal, client),
    )
    try:
        yield lists, servers
    finally:
        await servers.close()


def _tokens(journal: StepJournal, client: LegClient) -> TokenOf:
    """Gets what servers are called with where somebody has signed in; no text of the leg shows it then."""

    async def token_of(server: str, rejected: str | None) -> McpToken:
        try:
            found = await client.mcp_token(server, rejected)
        except AttemptSuperseded:
            raise
        except ServerRefused as refusal:
            if refusal.status != HTTPStatus.NOT_FOUND:
                raise
            return McpToken()  # of a server that is older than sign-ins
        if found.access_token is not None:
            journal.parts.masker.learn(f"of the sign-in at {server}", found.access_token)
        return found

    return token_of


class _ToolLists:
    """The lists of one leg."""

    def __init__(self, journal: StepJournal, manifests: Mapping[str, McpServer], client: LegClient) -> None:
        self._journal = journal
        self._manifests = manifests
        self._client = client
        self._shown = dict[str, ToolList]()
        """What the model is shown, by server."""
        self._found = dict[str, ToolList]()
        """The last that a server was found to offer."""

    async def open(self, servers: McpServers) -> Mapping[str, ToolList]:
        """What the model is shown, by server; a server that nobody has asked yet is started for that.

        Raises:
            ExecutionFailure: it cannot be asked.
        """
        for name in self._manifests:
            known = self._journal.parts.recorded.results.get(_place(name))
            if isinstance(known, StepFinished) and known.result is not None:
                value = await self._journal.parts.bodies.load_value(known.result)
                self._shown[name] = ToolList.model_validate(value)
        if self._missing:
            for name, pinned in (await self._pins()).items():
                if name in self._missing:
                    await self._show(pinned, pinned.model_dump(mode="json"), 0.0)
        at_once = asyncio.Semaphore(MAX_AT_ONCE)

        async def ask(name: str) -> None:
            async with at_once, self._journal.parts.gate.step():
                started = time.monotonic()
                try:
                    await servers.look(name)
                except ServerUnavailable as error:
                    raise ExecutionFailure(
                        ErrorCode.MCP_SERVER_UNAVAILABLE,
                        str(error),
                        "see that the server can be started on the runner, then retry the execution",
                    ) from error
                found = self._found[name]
                await self._show(found, found.model_dump(mode="json"), time.monotonic() - started)

        try:
            async with asyncio.TaskGroup() as tasks:
                for name in self._missing:
                    tasks.create_task(ask(name))
        except BaseExceptionGroup as errors:
            # pydantic-ai and the leg know what one error means.
            raise errors.exceptions[0] from None
        return self._shown

    async def inspect(self, servers: McpServers, name: str) -> InspectedServer:
        """Start a server, and ask it."""
        started = time.monotonic()
        async with self._journal.parts.gate.step():
            try:
                await servers.look(name)
            except ServerUnavailable as error:
                return InspectedServer(server=name, error=str(error))
        found = self._found[name]
        return InspectedServer(
            server=name,
            protocol=found.protocol,
            tools=len(found.tools),
            left_out=found.left_out,
            seconds=round(time.monotonic() - started, 3),
        )

    def found(self, name: str) -> ToolList:
        """What a server was found to offer."""
        return self._found[name]

    async def take(self, listed: ToolList) -> frozenset[str]:
        """Take in what a server offers; gives the tools that are not to be called."""
        for tool, why in listed.left_out.items():
            logger.warning("MCP server %s: tool %r is left out: %s", listed.server, tool, why)
        # Without secrets, as what it is held against.
        found = ToolList.model_validate(await self._journal.clean(listed.model_dump(mode="json")))
        before, self._found[found.server] = self._found.get(found.server), found
        if before is None or before.digest != found.digest:
            await self._report(found)
        shown, manifest = self._shown.get(found.server), self._manifests[found.server]
        if shown is None:
            return frozenset()
        difference = compare_lists(shown, found)
        if difference:
            self._tell(found, difference, refused=manifest.is_pinned)
        return frozenset(difference.changed) if manifest.is_pinned else frozenset()

    @property
    def _missing(self) -> list[str]:
        return [name for name in self._manifests if name not in self._shown]

    async def _show(self, shown: ToolList, value: JsonValue, seconds: float) -> None:
        """Show the model this list from now on."""
        place = _place(shown.server)
        self._shown[shown.server] = shown
        self._journal.write(
            StepFinished(
                kind=TOOLS_LISTED,
                key=place.key,
                digest=shown.digest,
                result=await self._journal.parts.bodies.store_value(value),
                duration_seconds=round(seconds, 6),
            )
        )

    def _tell(self, found: ToolList, difference: ListDifference, *, refused: bool) -> None:
        """Write down that a server has changed, once for each list that it is found with."""
        digest = found.digest
        if self._journal.parts.recorded.changed_lists.get(found.server) == digest:
            return
        added, removed, changed = (
            list(names[:MAX_NAMED_TOOLS])
            for names in (difference.added, difference.removed, difference.changed)
        )
        self._journal.write(
            ToolsChanged(
                server=found.server,
                digest=digest,
                added=added,
                removed=removed,
                changed=changed,
                refused=refused,
            )
        )

    async def _pins(self) -> Mapping[str, ToolList]:
        try:
            return (await self._client.tool_pins()).pins
        except AttemptSuperseded:
            raise
        except ServerRefused as refusal:
            if refusal.status != HTTPStatus.NOT_FOUND:
                raise
            return {}  # of a server that is older than pins

    async def _report(self, found: ToolList) -> None:
        """Let the server pin what was found, or keep it for a person to look at. The leg needs neither."""
        try:
            await self._client.report_tools(found)
        except AttemptSuperseded:
            raise
        except ServerRefused as refusal:
            logger.warning("the tools of MCP server %s are not pinned: %s", found.server, refusal)


def _place(server: str) -> StepKey:
    return StepKey("", TOOLS_LISTED, f"{SERVER_PREFIX}{server}", 1)
