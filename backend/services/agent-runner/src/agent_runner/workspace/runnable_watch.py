"""Watches over files that other programs execute later: tells which an agent changed, or moves these aside.

What changed while no command ran is a person's, and is left alone where files are moved. What there was
before is kept beside the sessions' directories while a leg works, so that a runner that dies hides nothing.
"""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal

from pydantic_ai.workspaces import WorkspaceError

from agent_runner.workspace.runnable_files import ASIDE_SUFFIX, Content, Look, changed_between, look
from stigmer_isolation.beneath import OPEN_DIRECTORY, open_beneath

logger = logging.getLogger(__name__)

WATCHED: Final = ".watched"
"""In the runner's root: how the workspace of an execution was when its leg began, by execution."""
_ASIDE_TRIES: Final = 100

Protection = Literal["warn", "refuse", "off"]


class RunnableWatch:
    """One leg's watch over its workspace."""

    def __init__(
        self, path: Path, open_workspace: Callable[[], int], kept: Path, protection: Protection
    ) -> None:
        """`path` is the workspace's, canonical; `open_workspace` gives a descriptor of it, to be closed.

        `kept` is the file that outlives this process.
        """
        self._path = str(path)
        self._open = open_workspace
        self._kept = kept
        self._protection: Protection = protection
        self._before = Look()
        self._baseline = Look()
        """Before the commands in hand, where their changes are refused."""
        self._commands = 0
        self._lock = asyncio.Lock()
        self.moved_aside: list[str] = []
        """Paths that were refused."""

    @property
    def is_on(self) -> bool:
        """Whether it was asked for."""
        return self._protection != "off"

    def begin(self) -> None:
        """Look at how things are, unless a runner died that had begun. Blocks."""
        if self._protection == "off":
            return
        try:
            self._before = Look(json.loads(self._kept.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            with contextlib.suppress(OSError, WorkspaceError):  # what there is not yet, is new later
                self._before = self._look()
                self._keep()

    def _keep(self) -> None:
        self._kept.parent.mkdir(mode=0o700, exist_ok=True)
        draft = self._kept.with_name(f"{self._kept.name}.new")
        draft.write_text(json.dumps(self._before.marks), encoding="utf-8")
        draft.replace(self._kept)

    @asynccontextmanager
    async def over_command(self) -> AsyncGenerator[None]:
        """Around each command: where changes are refused, move what it changed aside afterwards."""
        if self._protection != "refuse":
            yield
            return
        async with self._lock:
            if self._commands == 0:
                self._baseline = await asyncio.to_thread(self._look)
            self._commands += 1
        try:
            yield
        finally:
            async with self._lock:
                self._commands -= 1
                with contextlib.suppress(OSError, WorkspaceError):
                    await asyncio.to_thread(self._move_changed_aside)

    def finish(self) -> tuple[list[str], bool]:
        """What changed since `begin` and is still there, and whether all was looked at. Blocks."""
        if self._protection == "off":
            return [], True
        with contextlib.suppress(OSError, WorkspaceError):
            after = self._look()
            self._kept.unlink(missing_ok=True)
            return changed_between(self._before, after), after.is_whole
        return [], True  # the workspace is gone, and nothing in it is executed

    def _look(self) -> Look:
        directory = self._open()
        try:
            # Opened for passing through; to be listed it is opened once more.
            listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        finally:
            os.close(directory)
        try:
            return look(listed, self._path, keeps_contents=self._protection == "refuse")
        finally:
            os.close(listed)

    def _move_changed_aside(self) -> None:
        after = self._look()
        changed = changed_between(self._baseline, after)
        directory = self._open()
        try:
            for path in changed:
                try:
                    _move_aside(directory, path, self._baseline.contents.get(path))
                except OSError as error:
                    logger.warning("could not move %r aside: %s", path, error.strerror)
                else:
                    self.moved_aside.append(path)
        finally:
            os.close(directory)
        if changed:
            self._baseline = self._look()


def _move_aside(directory: int, path: str, old: Content | None) -> None:
    """Give a file a name that nothing executes, and what was there before its place again."""
    folder, _, name = path.rpartition("/")
    parent = open_beneath(directory, folder or ".", OPEN_DIRECTORY)
    try:
        _rename_aside(parent, name)
        if old is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(name, flags, old.mode & 0o777, dir_fd=parent)
            with os.fdopen(descriptor, "wb") as file:
                file.write(old.data)
                os.fchmod(descriptor, old.mode & 0o777)
    finally:
        os.close(parent)


def _rename_aside(parent: int, name: str) -> None:
    for number in range(_ASIDE_TRIES):
        aside = f"{name}{f'.{number}' if number else ''}{ASIDE_SUFFIX}"
        try:
            os.stat(aside, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(name, aside, src_dir_fd=parent, dst_dir_fd=parent)
            return
    raise FileExistsError(name)
