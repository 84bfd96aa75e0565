"""Gives events that older versions wrote in the newest words. Stored bodies stay as they are.

Every reader gets its events through here: people, programs, and runners. What stands in blobs is translated
into a blob of its own, once; the execution's log counts as naming that too.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

from pydantic import JsonValue, TypeAdapter
from sqlalchemy import Connection

from stigmer_contract.events import INLINE_PAYLOAD_MAX_BYTES, LOG_FORMAT
from stigmer_contract.old_logs import (
    GONE_SINCE_FORMAT_1,
    PAYLOADS_OF_FORMAT_1,
    newest_event,
    newest_value,
)
from stigmer_server.blob_grants import grant_to_session, session_holds, session_of
from stigmer_server.blobs import BlobStore
from stigmer_server.database import Database, insert_where_absent
from stigmer_server.errors import NotFound
from stigmer_server.event_log import StoredEvent
from stigmer_server.tables import blob_references

logger = logging.getLogger(__name__)

_JSON: Final[TypeAdapter[JsonValue]] = TypeAdapter(JsonValue)
_Fields = dict[str, JsonValue]


class LogFormats:
    """Translates events of the logs of one database."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    async def newest(self, execution_id: str, stored: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        """The events in the newest words, as many and in the same order."""
        if all(event.format == LOG_FORMAT for event in stored):
            return stored
        return [await self._newest_stored(execution_id, event) for event in stored]

    async def newest_events(self, execution_id: str, events: Sequence[_Fields]) -> list[_Fields]:
        """Events that a runner of version 0.1.0 appends, in the newest words. Some are written no more."""
        return [
            await self._newest_fields(execution_id, event)
            for event in events
            if event.get("type") not in GONE_SINCE_FORMAT_1
        ]

    async def _newest_stored(self, execution_id: str, event: StoredEvent) -> StoredEvent:
        if event.format == LOG_FORMAT or event.type not in PAYLOADS_OF_FORMAT_1:
            return event
        newest = await self._newest_fields(execution_id, json.loads(event.body))
        return replace(event, format=LOG_FORMAT, body=_JSON.dump_json(newest).decode())

    async def _newest_fields(self, execution_id: str, event: _Fields) -> _Fields:
        field = PAYLOADS_OF_FORMAT_1.get(str(event.get("type")))
        payload = event.get(field) if field is not None else None
        if not isinstance(payload, dict):
            return event
        try:
            value = await self._load(execution_id, payload)
        except NotFound:
            logger.warning("a blob of an old log is gone", extra={"execution_id": execution_id})
            return event
        newest = newest_value(event, value)
        return newest_event(event, await self._wrap(execution_id, newest), newest)

    async def _load(self, execution_id: str, payload: _Fields) -> JsonValue:
        if payload.get("kind") != "blob":
            return payload.get("value")
        sha256 = str(payload.get("sha256"))

        def is_held(connection: Connection) -> bool:
            session_id = session_of(connection, execution_id)
            return session_id is not None and session_holds(connection, sha256, session_id)

        # A runner can write any name into its log: that alone must not give it the bytes.
        if not await self._database.read(is_held):
            raise NotFound("blob", sha256)
        file: Path = self._blobs.find(sha256)
        return _JSON.validate_json(await asyncio.to_thread(file.read_bytes))

    async def _wrap(self, execution_id: str, value: JsonValue) -> _Fields:
        content = _JSON.dump_json(value)
        if len(content) <= INLINE_PAYLOAD_MAX_BYTES:
            return {"kind": "inline", "value": value}
        blob = await self._blobs.store_bytes(content)

        def work(connection: Connection) -> None:
            row = {"execution_id": execution_id, "sha256": blob.sha256}
            insert_where_absent(connection, blob_references, row)
            session_id = session_of(connection, execution_id)
            if session_id is not None:
                grant_to_session(connection, blob.sha256, session_id)

        await self._database.write(work)
        return cast("_Fields", {"kind": "blob", "sha256": blob.sha256, "size_bytes": blob.size_bytes})
