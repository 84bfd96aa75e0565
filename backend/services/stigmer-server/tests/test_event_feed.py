"""Following many logs at once, where one of them cannot be read."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from stigmer_server.blobs import BlobStore
from stigmer_server.database import open_database
from stigmer_server.errors import Unavailable
from stigmer_server.event_broadcast import EventBroadcast
from stigmer_server.event_feed import EventFeed
from stigmer_server.event_log import EventLog
from stigmer_server.log_formats import LogFormats
from stigmer_server.steady_clock import SteadyClock


async def test_a_stream_of_many_logs_ends_where_one_of_them_cannot_be_read(tmp_path: Path) -> None:
    database = open_database(f"sqlite+aiosqlite:///{tmp_path / 'without-tables.db'}")
    broadcast = EventBroadcast()
    clock = SteadyClock(database)
    log = EventLog(database, clock, broadcast.publish_recorded, lambda _seconds, _events: None)
    feed = EventFeed(log, broadcast, LogFormats(database, BlobStore(tmp_path)))
    try:
        with pytest.raises(Unavailable):
            async with contextlib.aclosing(feed.follow_many({"exe_1": 0}, None)) as told, asyncio.timeout(60):
                await anext(told)
    finally:
        await database.close()
    assert broadcast.reader_count == 0
