"""A call under way: its server may ask something meanwhile, for which time does not count. Knows no SDK."""

import asyncio
import time

from pydantic import JsonValue

from agent_runner.mcp_servers.faults import AnswerRefused, CallLost
from agent_runner.mcp_servers.questions import CallHost, ServerRequest

_Answer = asyncio.Future[dict[str, JsonValue]]


class Asked:
    """What a server asks while it carries out one call, in the order in which it asks."""

    def __init__(self) -> None:
        self._open = asyncio.Queue[tuple[ServerRequest, _Answer]]()
        self._answers = set[_Answer]()

    async def put(self, request: ServerRequest) -> dict[str, JsonValue]:
        """Ask, and return with the answer.

        Raises:
            AnswerRefused: there is none.
        """
        answer: _Answer = asyncio.get_running_loop().create_future()
        self._answers.add(answer)
        self._open.put_nowait((request, answer))
        try:
            return await answer
        finally:
            self._answers.discard(answer)

    async def next(self) -> tuple[ServerRequest, _Answer]:
        """The next that is asked."""
        return await self._open.get()

    def drop(self) -> None:
        """The call is over: who waits for an answer is told so."""
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(AnswerRefused("the call is over"))


async def until_done(
    calling: "asyncio.Task[dict[str, JsonValue]]", asked: Asked, host: CallHost, timeout_seconds: float
) -> dict[str, JsonValue]:
    """What the call leads to; what is asked meanwhile is answered by the host, one thing after the other.

    Raises:
        CallLost: it took too long.
        StillOpen: the host has no answer yet.
    """
    left = timeout_seconds
    while True:
        began = time.monotonic()
        asking = asyncio.create_task(asked.next())
        try:
            await asyncio.wait({calling, asking}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asking.cancel()
        left -= time.monotonic() - began
        if calling.done():
            return calling.result()
        if not asking.done() or asking.cancelled():
            raise CallLost("it did not answer in time")
        request, answer = asking.result()
        await _answer(calling, request, answer, host)


async def _answer(
    calling: "asyncio.Task[dict[str, JsonValue]]", request: ServerRequest, answer: _Answer, host: CallHost
) -> None:
    answering = asyncio.create_task(host.answer(request))
    try:
        await asyncio.wait({calling, answering}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not answering.done():  # the server goes on without an answer, or the call is given up
            answering.cancel()
            await asyncio.wait({answering})
    if answering.cancelled() or answer.done():
        return
    try:
        answer.set_result(answering.result())
    except AnswerRefused as error:
        answer.set_exception(error)
