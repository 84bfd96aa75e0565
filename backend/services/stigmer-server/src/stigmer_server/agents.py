"""Applied agents: their newest manifest, and how often it has changed. Runs nothing.

Names are an owner's own: one's own agent comes before the shared one of its name.
"""

import json
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, select, tuple_
from sqlalchemy.exc import IntegrityError

from stigmer_contract.api import AgentResource, Page, SetOwner, SharedWith
from stigmer_contract.manifest import AgentManifest
from stigmer_server.database import Database, insert_where_absent
from stigmer_server.errors import Conflict, Forbidden, InvalidRequest, NotFound
from stigmer_server.owners import Caller
from stigmer_server.pages import decode_name_cursor, name_cursor_key, page_of
from stigmer_server.tables import agents


class Agents:
    """The applied agents, by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def apply(
        self, name: str, manifest: AgentManifest, caller: Caller, owner: str | None = None
    ) -> tuple[AgentResource, bool]:
        """Make the caller's agent what the manifest says. The version counts up where that is a change.

        Returns:
            The agent, and whether it is new.

        Raises:
            InvalidRequest: the manifest names another agent.
            NotFound: the caller may not name this owner.
        """
        if manifest.metadata.name != name:
            raise InvalidRequest(
                f"the manifest names the agent {manifest.metadata.name!r}, the address {name!r}",
                "use the same name in both",
            )
        whose = caller.named(owner)
        return await self._database.write(lambda connection: _apply(connection, whose, manifest))

    async def get(self, name: str, caller: Caller, owner: str | None = None) -> AgentResource:
        """The agent that the name means to the caller.

        Raises:
            NotFound: there is none.
        """
        return await self._database.read(lambda connection: find_agent(connection, name, caller, owner))

    async def list(self, caller: Caller, limit: int, cursor: str | None) -> Page[AgentResource]:
        """The agents that the caller sees, by name and owner."""
        after = decode_name_cursor(cursor)
        key = tuple_(agents.c.name, agents.c.owner)

        def work(connection: Connection) -> list[AgentResource]:
            query = select(agents).where(caller.may_see(agents), key > tuple_(*after))
            query = query.order_by(agents.c.name, agents.c.owner).limit(limit + 1)
            return [_resource(row) for row in connection.execute(query)]

        return page_of(
            await self._database.read(work), limit, lambda agent: name_cursor_key(agent.name, agent.owner)
        )

    async def set_owner(
        self, name: str, request: SetOwner, caller: Caller, owner: str | None = None
    ) -> AgentResource:
        """Give the agent that the name means to the caller to somebody.

        Raises:
            NotFound: there is none.
            Conflict: they have one of this name, or another one is shared under it.
        """

        def work(connection: Connection) -> AgentResource:
            before = find_agent(connection, name, caller, owner)
            whose = request.owner or before.owner
            changes = {"owner": whose, "shared_with": request.shared_with.value}
            connection.execute(agents.update().where(_is(before.name, before.owner)).values(changes))
            return _resource(connection.execute(select(agents).where(_is(name, whose))).one())

        try:
            return await self._database.write(work)
        except IntegrityError as error:
            raise Conflict(
                f"the new owner has an agent {name!r} already, or another one is shared",
                "delete one of them first",
            ) from error

    async def delete(self, name: str, caller: Caller, owner: str | None = None) -> None:
        """Forget the agent that the name means to the caller; its executions stay.

        Raises:
            NotFound: there is none.
            Forbidden: it is shared, and not the caller's.
        """

        def work(connection: Connection) -> None:
            found = find_agent(connection, name, caller, owner)
            if found.owner != caller.owner and not caller.sees_all:
                raise Forbidden(f"agent {name!r} is shared: only its owner or an administrator deletes it")
            connection.execute(agents.delete().where(_is(name, found.owner)))

        await self._database.write(work)


def find_agent(connection: Connection, name: str, caller: Caller, owner: str | None = None) -> AgentResource:
    """The agent that a name means to a caller: its own, else the shared one; or that of a named owner.

    Raises:
        NotFound: there is none that the caller sees.
    """
    query = select(agents).where(agents.c.name == name)
    if owner is None:
        query = query.where(caller.is_given(agents)).order_by(caller.own_first(agents))
    else:
        query = query.where(caller.may_see(agents), agents.c.owner == owner)
    row = connection.execute(query.limit(1)).one_or_none()
    if row is None:
        raise NotFound("agent", name)
    return _resource(row)


def _is(name: str, owner: str) -> Any:
    return and_(agents.c.name == name, agents.c.owner == owner)


def _apply(connection: Connection, owner: str, manifest: AgentManifest) -> tuple[AgentResource, bool]:
    now, name = datetime.now(UTC), manifest.metadata.name
    text = manifest.model_dump_json(by_alias=True, exclude_unset=True)
    values = {
        "owner": owner,
        "name": name,
        "shared_with": SharedWith.NOBODY.value,
        "version": 1,
        "manifest": text,
        "created_at": now,
        "updated_at": now,
    }
    is_new = insert_where_absent(connection, agents, values)
    row = connection.execute(select(agents).where(_is(name, owner)).with_for_update()).one()
    if is_new or _stored_manifest(row.manifest) == manifest:
        return _resource(row), is_new
    changes = {"version": row.version + 1, "manifest": text, "updated_at": now}
    connection.execute(agents.update().where(_is(name, owner)).values(changes))
    return _resource(connection.execute(select(agents).where(_is(name, owner))).one()), False


_OLD_POLICIES: Final = {"never": "allow", "always": "deny"}
"""Words of 0.1.0, whose agents with rules could be applied and not run. Only `ask` has an expiry by now."""


def _stored_manifest(text: str) -> AgentManifest:
    document = json.loads(text)
    rules = document["spec"].get("approval", [])
    if any(rule["policy"] in _OLD_POLICIES for rule in rules):
        document["spec"]["approval"] = [
            rule
            if rule["policy"] not in _OLD_POLICIES
            else {"tool": rule["tool"], "when": rule.get("when"), "policy": _OLD_POLICIES[rule["policy"]]}
            for rule in rules
        ]
        text = json.dumps(document)
    return AgentManifest.model_validate_json(text)


def _resource(row: Row[Any]) -> AgentResource:
    return AgentResource(
        name=row.name,
        version=row.version,
        manifest=_stored_manifest(row.manifest),
        created_at=row.created_at,
        updated_at=row.updated_at,
        owner=row.owner,
        shared_with=SharedWith(row.shared_with),
    )
