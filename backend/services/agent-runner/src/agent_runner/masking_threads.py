"""Masks beside the event loop what would hold it: long texts, and all texts where the secrets are long.

In threads of its own, so that whoever has much to mask holds up nobody who reads a file.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from agent_runner.masking import Masker

MAX_CHARACTERS_ON_LOOP: Final = 262_144
"""Of a text that is masked at once: with a few secrets of usual length that takes a few milliseconds."""
MAX_SECRETS_ON_LOOP: Final = 16_384
"""Characters of all spellings: some twenty secrets of usual length have as many."""
_THREADS: Final = ThreadPoolExecutor(2, thread_name_prefix="masking")

ArgumentsT = ParamSpec("ArgumentsT")
ResultT = TypeVar("ResultT")


async def off_loop(
    masker: Masker,
    characters: int,
    work: Callable[ArgumentsT, ResultT],
    *arguments: ArgumentsT.args,
    **named: ArgumentsT.kwargs,
) -> ResultT:
    """What `work` returns, which masks that many characters; in a thread where that may take long."""
    if characters <= MAX_CHARACTERS_ON_LOOP and masker.size <= MAX_SECRETS_ON_LOOP:
        return work(*arguments, **named)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_THREADS, lambda: work(*arguments, **named))
