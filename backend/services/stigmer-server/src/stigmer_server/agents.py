"""Applied agents: their newest manifest, and how often it has changed. Runs nothing."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from stigmer_contract.api import AgentResource, Page
from stigmer_contract.manifest import AgentManifest
from stigmer_server.database import Database, insert_where_absent
from stigmer_server.errors import InvalidRequest, NotFound
from stigmer_server.pages import decode_cursor, page_of
from stigmer_server.tables import agents


class Agents:
    """The applied agents, by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def apply(self, name: str, manifest: AgentManifest) -> tuple[AgentResource, bool]:
        """Make the agent what the manifest says. The version counts up where that is a change.

        Returns:
            The agent, and whether it is new.

        Raises:
            InvalidRequest: the manifest names another agent.
        """
        if manifest.metadata.name != name:
            raise InvalidRequest(
                f"the manifest names the agent {manifest.metadata.name!r}, the address {name!r}",
                "use the same name in both",
            )
        return await self._database.write(lambda connection: _apply(connection, manifest))

    async def get(self, name: str) -> AgentResource:
        """The agent of this name.

        Raises:
            NotFound: there is none.
        """
        return await self._database.read(lambda connection: find_agent(connection, name))

    async def list(self, limit: int, cursor: str | None) -> Page[AgentResource]:
        """Agents by name."""
        after = "" if cursor is None else decode_cursor(cursor)

        def work(connection: Connection) -> list[AgentResource]:
            query = select(agents).where(agents.c.name > after).order_by(agents.c.name).limit(limit + 1)
            return [_resource(row) for row in connection.execute(query)]

        return page_of(await self._database.read(work), limit, lambda agent: agent.name)

    async def delete(self, name: str) -> None:
        """Forget the agent; its executions stay.

        Raises:
            NotFound: there is none.
        """

        def work(connection: Connection) -> None:
            if connection.execute(agents.delete().where(agents.c.name == name)).rowcount == 0:
                raise NotFound("agent", name)

        await self._database.write(work)


def find_agent(connection: Connection, name: str) -> AgentResource:
    """The agent of this name.

    Raises:
        NotFound: there is none.
    """
    row = connection.execute(select(agents).where(agents.c.name == name)).one_or_none()
    if row is None:
        raise NotFound("agent", name)
    return _resource(row)


def _apply(connection: Connection, manifest: AgentManifest) -> tuple[AgentResource, bool]:
    now, name = datetime.now(UTC), manifest.metadata.name
    text = manifest.model_dump_json(by_alias=True, exclude_unset=True)
    values = {"name": name, "version": 1, "manifest": text, "created_at": now, "updated_at": now}
    if insert_where_absent(connection, agents, values):
        return find_agent(connection, name), True
    row = connection.execute(select(agents).where(agents.c.name == name).with_for_update()).one()
    if AgentManifest.model_validate_json(row.manifest) != manifest:
        changes = {"version": row.version + 1, "manifest": text, "updated_at": now}
        connection.execute(agents.update().where(agents.c.name == name).values(changes))
    return find_agent(connection, name), False


def _resource(row: Row[Any]) -> AgentResource:
    return AgentResource(
        name=row.name,
        version=row.version,
        manifest=AgentManifest.model_validate_json(row.manifest),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
