"""What MCP servers offered when their tools were pinned, and what they were found to offer since.

A pin belongs to an owner, an agent and a server as the manifest starts or reaches it: with another command it
is another server. Runners tell what they found; only a person makes that the pin where the manifest holds
the server to it.
"""

from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy import Connection, Row, and_, select

from stigmer_contract.events import EVENT_ADAPTER, ExecutionStarted
from stigmer_contract.manifest_mcp import McpServer
from stigmer_contract.tool_lists import AgentTools, PinnedServer, ToolList, ToolPins, server_digest
from stigmer_server.agents import find_agent
from stigmer_server.database import Database, insert_where_absent
from stigmer_server.errors import Conflict, InvalidRequest, NotFound
from stigmer_server.event_log import read_events
from stigmer_server.owners import Caller
from stigmer_server.tables import executions, tool_pins

MAX_PINS: Final = 20
"""Of a server of an agent of an owner, each as it was once started or reached; older ones are forgotten."""


class ToolListPins:
    """The pinned lists of tools."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_execution(self, execution_id: str) -> ToolPins:
        """What the execution's MCP servers are held to.

        Raises:
            NotFound: there is no such execution.
        """

        def work(connection: Connection) -> ToolPins:
            owner, first = read_opening(connection, execution_id)
            found = {
                server.name: _find(connection, owner, first.agent_name, server)
                for server in first.spec.mcp_servers
            }
            return ToolPins(
                pins={
                    name: ToolList.model_validate_json(row.tools)
                    for name, row in found.items()
                    if row is not None
                }
            )

        return await self._database.read(work)

    async def report(self, execution_id: str, server_name: str, text: str) -> None:
        """Take in what a runner found that a server offers: JSON of a `ToolList`.

        It is pinned where nothing is yet, or where the manifest does not hold the server to its pin. Else it
        is kept beside the pin, for a person to look at.

        Raises:
            NotFound: there is no such execution, or its agent has no such server.
            InvalidRequest: that is no such list.
        """
        try:
            found = ToolList.model_validate_json(text)
        except ValidationError as error:
            raise InvalidRequest(f"what MCP server {server_name!r} offers is no list of tools") from error

        def work(connection: Connection) -> None:
            owner, first = read_opening(connection, execution_id)
            server = named_server(first.spec.mcp_servers, server_name)
            key = _key(owner, first.agent_name, server)
            now = datetime.now(UTC)
            values = {**key, "tools": text, "updated_at": now}
            if insert_where_absent(connection, tool_pins, values):
                _forget_oldest(connection, key)
                return
            row = connection.execute(select(tool_pins).where(_is(key)).with_for_update()).one()
            is_same = ToolList.model_validate_json(row.tools).digest == found.digest
            changes: dict[str, Any] = {"found": None}
            if not is_same:
                changes = {"found": text} if server.is_pinned else {"tools": text, "found": None}
                changes["updated_at"] = now
            connection.execute(tool_pins.update().where(_is(key)).values(changes))

        await self._database.write(work)

    async def of_agent(self, name: str, caller: Caller, owner: str | None = None) -> AgentTools:
        """What is known of the tools of an applied agent's MCP servers, for the caller's executions.

        Raises:
            NotFound: there is no such agent that the caller sees.
        """

        def work(connection: Connection) -> AgentTools:
            agent = find_agent(connection, name, caller, owner)
            return AgentTools(
                servers=[
                    _resource(server, _find(connection, caller.owner, name, server))
                    for server in agent.manifest.spec.mcp_servers
                ]
            )

        return await self._database.read(work)

    async def accept(
        self, name: str, server_name: str, digest: str, caller: Caller, owner: str | None = None
    ) -> PinnedServer:
        """Pin what was found, for the caller's executions. Accepting the pinned list again changes nothing.

        Raises:
            NotFound: there is no such agent that the caller sees, or it has no such server.
            Conflict: what was found by now is another list.
        """

        def work(connection: Connection) -> PinnedServer:
            agent = find_agent(connection, name, caller, owner)
            server = named_server(agent.manifest.spec.mcp_servers, server_name)
            row = _find(connection, caller.owner, name, server, lock=True)
            if row is not None and ToolList.model_validate_json(row.tools).digest == digest:
                return _resource(server, row)
            if row is None or row.found is None or ToolList.model_validate_json(row.found).digest != digest:
                raise Conflict(
                    f"what MCP server {server_name!r} was found to offer is not that list any more",
                    "look at the list again",
                )
            key = _key(caller.owner, name, server)
            changes = {"tools": row.found, "found": None, "updated_at": datetime.now(UTC)}
            connection.execute(tool_pins.update().where(_is(key)).values(changes))
            return _resource(server, _find(connection, caller.owner, name, server))

        return await self._database.write(work)


def read_opening(connection: Connection, execution_id: str) -> tuple[str, ExecutionStarted]:
    """Whose execution it is, and how it began."""
    query = select(executions.c.owner).where(executions.c.execution_id == execution_id)
    owner = connection.execute(query).scalar_one_or_none()
    if owner is None:
        raise NotFound("execution", execution_id)
    [opening] = read_events(connection, execution_id, limit=1)
    first = EVENT_ADAPTER.validate_json(opening.body)
    assert isinstance(first, ExecutionStarted)
    return owner, first


def named_server(servers: list[McpServer], name: str) -> McpServer:
    for server in servers:
        if server.name == name:
            return server
    raise NotFound("MCP server", name)


def _key(owner: str, agent_name: str, server: McpServer) -> dict[str, str]:
    return {
        "owner": owner,
        "agent_name": agent_name,
        "server": server.name,
        "server_digest": server_digest(server),
    }


def _is(key: dict[str, str]) -> Any:
    return and_(*(tool_pins.c[name] == value for name, value in key.items()))


def _find(
    connection: Connection, owner: str, agent_name: str, server: McpServer, *, lock: bool = False
) -> Row[Any] | None:
    query = select(tool_pins).where(_is(_key(owner, agent_name, server)))
    return connection.execute(query.with_for_update() if lock else query).one_or_none()


def _resource(server: McpServer, row: Row[Any] | None) -> PinnedServer:
    return PinnedServer(
        server=server.name,
        pin=server.is_pinned,
        pinned=None if row is None else ToolList.model_validate_json(row.tools),
        found=None if row is None or row.found is None else ToolList.model_validate_json(row.found),
    )


def _forget_oldest(connection: Connection, key: dict[str, str]) -> None:
    of_server = _is({name: value for name, value in key.items() if name != "server_digest"})
    newest = select(tool_pins.c.server_digest).where(of_server)
    newest = newest.order_by(tool_pins.c.updated_at.desc()).limit(MAX_PINS)
    kept = list(connection.execute(newest).scalars())
    connection.execute(tool_pins.delete().where(of_server, tool_pins.c.server_digest.not_in(kept)))
