"""Shows from outside which execution's leg holds the event loop: whoever ends a runner that hangs reads it.

A pattern that backtracks, say, holds Python's lock, so that no thread of the process could tell any more. The
marker is shared memory: the execution's id while code of its leg runs in the loop, else zeros.
"""

import asyncio
import mmap
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from operator import attrgetter
from typing import Final

from stigmer_contract.runner_names import MARKER_BYTES

_NOBODY: Final = bytes(MARKER_BYTES)
_holder: Final[ContextVar[bytes]] = ContextVar("execution_in_loop")

# What the loop calls for each callback and each step of a task, in the context of whoever made it (Python
# 3.11 to 3.14, `asyncio.events`). There is no public place where every switch of leg passes through.
_RUN: Final = "_run"
_context_of: Final[Callable[[asyncio.Handle], Context]] = attrgetter("_context")


def hold_loop_for(execution_id: str) -> None:
    """All that the task at hand does from now on, and what it starts, is of this execution's leg."""
    _holder.set(execution_id.encode()[:MARKER_BYTES].ljust(MARKER_BYTES, b"\0"))


@contextmanager
def marking(descriptor: int) -> Generator[None]:
    """Keep the marker at the beginning of an open file."""
    marker = mmap.mmap(descriptor, MARKER_BYTES)
    run: Callable[[asyncio.Handle], None] = getattr(asyncio.Handle, _RUN)

    def run_marked(handle: asyncio.Handle) -> None:
        holder = _context_of(handle).get(_holder)
        if holder is None:
            run(handle)
            return
        marker[:] = holder
        try:
            run(handle)
        finally:
            marker[:] = _NOBODY

    setattr(asyncio.Handle, _RUN, run_marked)
    try:
        yield
    finally:
        setattr(asyncio.Handle, _RUN, run)
        marker.close()
