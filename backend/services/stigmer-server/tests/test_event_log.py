"""Group commit: appends that are written together are nobody's business but their own."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection

from stigmer_contract.api import ADMINISTRATOR
from stigmer_contract.events import InlinePayload, MessageReceived
from stigmer_contract.identifiers import EXECUTION_PREFIX, new_id
from stigmer_server.database import open_database
from stigmer_server.errors import Conflict, NotFound, Unavailable
from stigmer_server.event_log import Change, EventLog, NewEvent, StoredEvent, insert_first_event
from stigmer_server.execution_state import ExecutionState
from stigmer_server.migrations import migrate
from stigmer_server.sessions import insert_session
from stigmer_server.steady_clock import SteadyClock


def message(text: str) -> NewEvent:
    return NewEvent.of(MessageReceived(message=InlinePayload(value=text)))


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.sequences: dict[str, list[int]] = {}

    def hear(self, state: ExecutionState, stored: Sequence[StoredEvent]) -> None:
        self.sequences.setdefault(state.execution_id, []).extend(event.sequence for event in stored)


@asynccontextmanager
async def open_log(url: str, count: int) -> AsyncGenerator[tuple[EventLog, list[str], Heard]]:
    """A log with so many executions, which is running."""
    database = open_database(url)
    heard = Heard()
    log = EventLog(database, SteadyClock(database), heard.hear, lambda seconds, events: None)

    def insert(connection: Connection) -> str:
        session = insert_session(connection, ADMINISTRATOR, None, None)
        state = ExecutionState(
            new_id(EXECUTION_PREFIX), session.session_id, "agent", None, datetime.now(UTC), None
        )
        insert_first_event(connection, state, message("first"))
        return state.execution_id

    await migrate(database)
    ids = [await database.write(insert) for _ in range(count)]
    writer = asyncio.create_task(log.run())
    try:
        yield log, ids, heard
    finally:
        log.close()
        await writer
        await database.close()


async def test_appends_of_many_executions_at_once_are_each_whole_and_in_order(database_url: str) -> None:
    async with open_log(database_url, 20) as (log, ids, heard):

        async def work(execution_id: str) -> None:
            for number in range(10):
                await log.append(
                    execution_id,
                    lambda state: Change(state, [message("a"), message("b")]),
                    f"append-{number}",
                )

        await asyncio.gather(*(work(execution_id) for execution_id in ids))

        expected = list(range(2, 22))
        assert heard.sequences == dict.fromkeys(ids, expected)
        for execution_id in ids:
            assert [event.sequence for event in await log.read(execution_id, 0, 100)] == [1, *expected]


async def test_what_one_append_does_wrong_is_not_the_ruin_of_the_others(database_url: str) -> None:
    async with open_log(database_url, 4) as (log, ids, heard):

        def refuse(state: ExecutionState) -> Change:
            raise Conflict("not now")

        def break_down(state: ExecutionState) -> Change:
            raise ZeroDivisionError

        def add(state: ExecutionState) -> Change:
            return Change(state, [message("fine")])

        results = await asyncio.gather(
            log.append(ids[0], add),
            log.append(ids[1], refuse),
            log.append("exe_none", add),
            log.append(ids[2], break_down),
            log.append(ids[3], add),
            return_exceptions=True,
        )

        kinds = [type(result).__name__ for result in results]
        assert kinds == ["Appended", "Conflict", "NotFound", "ZeroDivisionError", "Appended"]
        assert isinstance(results[2], NotFound)
        assert heard.sequences == {ids[0]: [2], ids[3]: [2]}
        assert [len(await log.read(execution_id, 0, 10)) for execution_id in ids] == [2, 1, 1, 2]


async def test_appends_that_wait_when_the_log_closes_are_still_written(database_url: str) -> None:
    async with open_log(database_url, 1) as (log, ids, _):
        waiting = [
            asyncio.create_task(log.append(ids[0], lambda state: Change(state, [message("last")])))
            for _ in range(5)
        ]
        await asyncio.sleep(0)
        log.close()

        assert [(await one).last_sequence for one in waiting] == [2, 3, 4, 5, 6]
        with pytest.raises(Unavailable):
            await log.append(ids[0], lambda state: Change(state, [message("too late")]))


async def test_a_caller_who_gives_up_does_not_stop_the_log(database_url: str) -> None:
    async with open_log(database_url, 1) as (log, ids, heard):
        impatient = asyncio.create_task(log.append(ids[0], lambda state: Change(state, [message("x")])))
        await asyncio.sleep(0)
        impatient.cancel()
        await log.append(ids[0], lambda state: Change(state, [message("y")]))

        assert heard.sequences[ids[0]][-1] == len(await log.read(ids[0], 0, 10))
