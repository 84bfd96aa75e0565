"""The runner's process polls until it is told to end, or one of its queues cannot be polled any more."""

import asyncio

from agent_runner.worker import until_one_ends


async def test_a_queue_that_is_polled_no_more_does_not_end_the_runner() -> None:
    ends = {name: asyncio.Event() for name in ("own", "older", "oldest")}
    polls = {name: asyncio.create_task(end.wait()) for name, end in ends.items()}
    waiting = asyncio.create_task(until_one_ends(lambda: list(polls.values())))
    await asyncio.sleep(0)

    for name in ("older", "oldest"):
        retired = polls.pop(name)
        ends[name].set()
        await retired
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()

    ends["own"].set()
    await asyncio.wait_for(waiting, 5)
