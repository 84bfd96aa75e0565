"""What executions leave behind: read from their logs. Whether a caller sees the execution is seen before."""

from typing import Final

from sqlalchemy import Connection, select

from stigmer_contract.api import ArtifactList
from stigmer_contract.artifacts import Artifact
from stigmer_contract.events import EVENT_ADAPTER, ArtifactsCollected
from stigmer_server.database import Database
from stigmer_server.errors import NotFound
from stigmer_server.tables import events

_TYPE: Final = "artifacts.collected"


class Artifacts:
    """The artifacts of executions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, execution_id: str) -> ArtifactList:
        """What the execution left behind when it ended last; empty where that is nothing."""
        collected = await self._database.read(lambda connection: _find(connection, execution_id))
        return ArtifactList(
            items=collected.files,
            left_out=collected.left_out,
            further=collected.further,
            unmatched=collected.unmatched,
            is_whole=collected.is_whole,
        )

    async def find(self, execution_id: str, path: str) -> Artifact:
        """The artifact at a path.

        Raises:
            NotFound: there is none.
        """
        collected = await self._database.read(lambda connection: _find(connection, execution_id))
        found = next((file for file in collected.files if file.path == path), None)
        if found is None:
            raise NotFound("artifact", path)
        return found


def _find(connection: Connection, execution_id: str) -> ArtifactsCollected:
    query = (
        select(events.c.body)
        .where(events.c.execution_id == execution_id, events.c.type == _TYPE)
        .order_by(events.c.sequence.desc())
        .limit(1)
    )
    body = connection.execute(query).scalar()
    event = ArtifactsCollected() if body is None else EVENT_ADAPTER.validate_json(body)
    assert isinstance(event, ArtifactsCollected)
    return event
