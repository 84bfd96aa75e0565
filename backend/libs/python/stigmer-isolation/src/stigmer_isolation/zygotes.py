"""The zygotes of a launcher: one for all commands or, where bubblewrap is used, one for each view.

Starts them when they are needed, replaces those that died, and ends those of views that have nothing to do.
"""

import asyncio
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final

from stigmer_isolation.bubblewrap import Bubblewrap, View
from stigmer_isolation.temporary_root import TemporaryRoot
from stigmer_isolation.zygote_process import ZygoteProcess

logger = logging.getLogger(__name__)

IDLE_SECONDS: Final = 60.0
"""How long one in bubblewrap is kept for the session's next command; a new one takes some 60 ms (2026-11)."""
MAX_IDLE: Final = 64
"""How many are kept so; each takes 7 MB (2026-11)."""


class Zygote:
    """A zygote in use: its process, and where its commands have their temporary directories."""

    def __init__(self, parent: str, held: Sequence[int]) -> None:
        """Start it; its commands' temporary directories are in one that is made in `parent`.

        Its process keeps the descriptors of `held` open.

        Raises:
            OSError: no process, descriptor or directory is to be had.
        """
        self._held, self._parent = held, parent
        self.users = 0
        """How many commands are, or are about to be, in its hands."""
        self.temporary = TemporaryRoot(parent)
        try:
            self.process = self._start()
        except OSError:
            self.temporary.remove()
            raise

    def _start(self) -> ZygoteProcess:
        return ZygoteProcess(held=self._held, cleared=self._parent)

    def stop(self) -> None:
        """End it and all that it runs. Blocks."""
        self.process.stop()
        self.temporary.remove()


class ZygoteInBubblewrap(Zygote):
    """One that bubblewrap shows a view, to which its temporary directories belong."""

    def __init__(self, parent: str, held: Sequence[int], bubblewrap: Bubblewrap, view: View) -> None:
        """As `Zygote`."""
        self._bubblewrap, self._view = bubblewrap, view
        super().__init__(parent, held)

    def _start(self) -> ZygoteProcess:
        return ZygoteProcess(self._bubblewrap.arguments(self._view, self.temporary.path), self._held)


class Zygotes:
    """All of a launcher's. Belongs to one event loop."""

    def __init__(self, temporary_root: str, held: Sequence[int] = ()) -> None:
        """Temporary directories are made in `temporary_root`; the processes keep those of `held` open."""
        self._temporary_root = temporary_root
        self._held = held
        self._living: dict[View | None, Zygote] = {}
        self._idle: dict[View, asyncio.TimerHandle] = {}
        """Those that wait for their end, the longest idle first."""
        self._dead: list[Zygote] = []
        """Those that died while their commands went on."""
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int | None:
        """Pid of the one that is not in bubblewrap; None where there is none."""
        zygote = self._living.get(None)
        return None if zygote is None else zygote.process.pid

    @contextmanager
    def use(self, bubblewrap: Bubblewrap | None = None, view: View | None = None) -> Generator[Zygote]:
        """The one for a view, started where there is none that lives, and kept while it is in use.

        Without a view: the one that is not in bubblewrap.

        Raises:
            OSError: no process, descriptor or directory is to be had.
        """
        zygote = self._living_one(bubblewrap, view)
        zygote.users += 1
        try:
            yield zygote
        finally:
            zygote.users -= 1
            if view is not None and zygote.users == 0 and self._living.get(view) is zygote:
                self._let_rest(view)
            elif zygote in self._dead and zygote.users == 0:
                self._dead.remove(zygote)
                self._in_a_thread(zygote.temporary.remove)

    async def close(self) -> None:
        """End all of them."""
        for view in list(self._idle):
            self._wake(view)
        living, self._living = self._living, {}
        for zygote in (*living.values(), *self._dead):
            self._in_a_thread(zygote.stop)
        self._dead.clear()
        await asyncio.gather(*self._ending)

    def _living_one(self, bubblewrap: Bubblewrap | None, view: View | None) -> Zygote:
        self._wake(view)
        zygote = self._living.get(view)
        if zygote is not None and not zygote.process.is_alive():
            logger.warning("the process that starts commands died; starting a new one")
            self._discard(view)
            zygote = None
        if zygote is None:
            if bubblewrap is None or view is None:
                zygote = Zygote(self._temporary_root, self._held)
            else:
                zygote = ZygoteInBubblewrap(self._temporary_root, self._held, bubblewrap, view)
            self._living[view] = zygote
        return zygote

    def _discard(self, view: View | None) -> None:
        """Forget one that died. Those of its commands that still run use its temporary directories."""
        dead = self._living.pop(view)
        dead.process.stop()
        if dead.users == 0:
            self._in_a_thread(dead.temporary.remove)
        else:
            self._dead.append(dead)

    def _wake(self, view: View | None) -> None:
        if view is not None and view in self._idle:
            self._idle.pop(view).cancel()

    def _let_rest(self, view: View) -> None:
        self._idle[view] = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end, view)
        if len(self._idle) > MAX_IDLE:
            self._end(next(iter(self._idle)))

    def _end(self, view: View) -> None:
        self._wake(view)
        self._in_a_thread(self._living.pop(view).stop)

    def _in_a_thread(self, work: Callable[[], None]) -> None:
        task = asyncio.create_task(asyncio.to_thread(work))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
