"""What keeps a leg, and what does not."""

import asyncio

from agent_runner.journal.gate import StepGate

SECONDS = 5.0


async def test_a_leg_is_idle_when_only_waits_are_left() -> None:
    gate = StepGate()
    working, done = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        async with gate.step():
            with gate.waiting():
                await asyncio.Event().wait()

    async def work() -> None:
        async with gate.step():
            working.set()
            await done.wait()

    idle = asyncio.create_task(gate.idle())
    tasks = [asyncio.create_task(wait()), asyncio.create_task(work())]
    await asyncio.wait_for(working.wait(), SECONDS)
    assert not gate.is_idle

    done.set()

    await asyncio.wait_for(idle, SECONDS)
    assert gate.is_idle
    assert gate.steps_in_hand == 0
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not gate.is_idle


async def test_a_leg_that_is_to_hand_back_does_not_wait_for_waits() -> None:
    gate = StepGate()
    waiting = asyncio.Event()

    async def wait() -> None:
        async with gate.step():
            with gate.waiting():
                waiting.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.wait_for(waiting.wait(), SECONDS)

    gate.close()

    await asyncio.wait_for(gate.drained(), SECONDS)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
