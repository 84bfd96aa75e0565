"""How reading a snapshot asks for blobs: it yields a SHA-256 and is sent the bytes, whoever brings them, and
however: at once, or over a network in an event loop."""

from collections.abc import Callable, Generator
from typing import TypeVar

_T = TypeVar("_T")

Wants = Generator[str, bytes, _T]
"""Work that wants blobs, one after the other."""


def provide(work: Wants[_T], load: Callable[[str], bytes]) -> _T:
    """Do the work with blobs that come at once."""
    try:
        wanted = next(work)
        while True:
            wanted = work.send(load(wanted))
    except StopIteration as end:
        result: _T = end.value
        return result
