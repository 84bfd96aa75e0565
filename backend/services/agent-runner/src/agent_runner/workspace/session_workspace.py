"""The workspace of one session, as pydantic-ai's tools use it: one directory for files and commands.

File operations cannot leave the directory. Commands start in it and die with all they started, but what they
may reach outside is decided by whoever isolates them, not here.
"""

import asyncio
import contextlib
import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from pydantic_ai.messages import WorkspaceRef
from pydantic_ai.workspaces import (
    CommandResult,
    FileEntry,
    SupportsCommands,
    SupportsFilesystem,
    SupportsRealpath,
    WorkspaceBackend,
    WorkspaceCommand,
    WorkspaceError,
    WorkspaceUnavailableError,
)

from agent_runner.workspace.command_errors import as_workspace_errors
from agent_runner.workspace.isolated_files import IsolatedFiles, NotAtOnce, open_root
from agent_runner.workspace.local_disks import is_on_local_disk
from agent_runner.workspace.owner_rights import give_back_rights
from agent_runner.workspace.packs import PackFolders
from agent_runner.workspace.runnable_watch import RunnableWatch
from stigmer_contract.workspace_directories import Identity
from stigmer_isolation.attached_streams import AttachedStreams
from stigmer_isolation.launcher import CommandLauncher, Undecodable
from stigmer_isolation.zygote.policy import Network, Policy

_T = TypeVar("_T")

WORKSPACE_REF: Final = WorkspaceRef(provider="stigmer", id="session")
"""The same for every session: the history that holds it belongs to the session already, and the directory's
path differs from machine to machine."""

OUTPUT_FOLDER: Final = ".stigmer/outputs"
"""Beneath the commands' HOME: output that was too long for a model."""
MAX_KEPT_OUTPUTS: Final = 20
GIT_PINNED: Final = (".git",)
"""Of a person's repository: moved away, another one could be put in its place ..."""
GIT_SEALED: Final = (".git/hooks",)
"""... with other hooks than these, which commands cannot change either."""
MAX_SLOW_WORK: Final = 3
"""How much slow work is done at once; asyncio has six threads on two cores."""


@functools.cache
def _semaphore_of(loop: asyncio.AbstractEventLoop) -> asyncio.Semaphore:
    return asyncio.Semaphore(MAX_SLOW_WORK)


def _slow_work() -> asyncio.Semaphore:
    return _semaphore_of(asyncio.get_running_loop())


class SessionWorkspace(WorkspaceBackend, SupportsCommands, SupportsFilesystem, SupportsRealpath):
    """A session's directory. Any number of them may stand for the same directory; none ever removes it."""

    def __init__(
        self,
        directory: Path,
        *,
        launcher: CommandLauncher,
        home: Path | None = None,
        network: Network = "none",
        identity: Identity | None = None,
    ) -> None:
        """`directory` is absolute; `network` is what commands may reach; `identity`, which directory it is.

        `home` is what commands find as `HOME`. Default: the directory itself; give another where the
        directory is a person's own, which caches and dotfiles do not belong into.
        """
        self.directory = directory
        """As it was given."""
        self.watch: RunnableWatch | None = None
        """Is told of each command; set before the first."""
        self.packs: PackFolders | None = None
        """Where programs are that came with the agent; set before the first command that needs one."""
        self._identity = identity
        self._home = home
        self._network: Network = network
        self._launcher = launcher
        self._directory: str | None = None
        self._files: IsolatedFiles | None = None
        self._files_at_once: IsolatedFiles | None = None
        """Where the directory is on a disk that answers at once."""

    @property
    def warning(self) -> str | None:
        """What a person has to know about the isolation of commands here."""
        return self._launcher.warning

    @property
    def refusal(self) -> str | None:
        """Why commands are not run here at all."""
        return self._launcher.refusal

    @property
    def has_own_home(self) -> bool:
        """Whether the `HOME` of commands is another directory."""
        return self._home is not None

    @property
    def command_environment(self) -> Mapping[str, str]:
        """What every command gets, here and elsewhere."""
        return self._launcher.base_environment

    @property
    def holds_files_in(self) -> bool:
        """Whether a command sees nothing of other directories than it may."""
        return self._launcher.refusal is None and (
            self._launcher.bubblewrap is not None or self._launcher.policy.landlock_abi > 0
        )

    @property
    def keeps_links_in(self) -> bool:
        """Whether no command can give a file of the directory another name outside of it; blocks.

        link(2) makes none in another mount, and in bubblewrap all that a command may write to is one.
        """
        if not self.holds_files_in:
            return False
        if self._launcher.bubblewrap is not None:
            return True
        elsewhere = [self._launcher.temporary_root, *self._launcher.policy.writable]
        if self._home is not None:
            elsewhere.append(str(self._home))
        try:
            here = self.directory.stat().st_dev
            return all(Path(path).stat().st_dev != here for path in elsewhere)
        except OSError:
            return False

    @property
    def ref(self) -> WorkspaceRef:
        """Names the session's workspace in a message history; holds no path."""
        return WORKSPACE_REF

    async def working_dir(self) -> str:
        """The directory's canonical path.

        Raises:
            WorkspaceUnavailableError: it is gone.
        """
        if self._files_at_once is not None:
            return self._ensure_there()
        return await asyncio.to_thread(self._ensure_there)

    async def read_bytes(self, path: str) -> bytes:
        """The content of a regular file."""
        content = await self.soon(lambda files: files.read_bytes(path))
        if content is None:
            raise WorkspaceError(f"{path} is too large to read as a whole")
        return content

    async def write_bytes(self, path: str, data: bytes) -> None:
        """Write a regular file in place, making missing parents."""
        await self.soon(lambda files: files.write_bytes(path, data))

    async def stat(self, path: str) -> FileEntry:
        """What is at the path."""
        return await self.soon(lambda files: files.stat(path))

    async def list_dir(self, path: str) -> Sequence[FileEntry]:
        """The entries of a directory, by name."""
        return await asyncio.to_thread(lambda: self._isolated().list_dir(path))

    async def make_dir(self, path: str) -> None:
        """Make a directory and its missing parents."""
        await self.soon(lambda files: files.make_dir(path))

    async def remove(self, path: str) -> None:
        """Remove a file, a link itself, or a directory with all that is in it."""
        await asyncio.to_thread(lambda: self._isolated().remove(path))

    async def exists(self, path: str) -> bool:
        """Whether something is at the path."""
        return await self.soon(lambda files: files.exists(path))

    async def realpath(self, path: str) -> str:
        """Where the path leads, out of the directory too."""
        return await self.soon(lambda files: files.realpath(path))

    async def run(
        self,
        command: WorkspaceCommand,
        *,
        shell: bool = False,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the protocol's name; the time-out kills, not cancels
        undecodable: Undecodable = "replace",
        input_text: str | None = None,
        network: Network | None = None,
        readable: Sequence[Path] = (),
    ) -> CommandResult:
        """Run a command in the directory to its end; nothing it started outlives it.

        `input_text` is what it reads from standard input. `network` is what it may reach; default: what the
        session's commands may. In the folders of `readable` it may read and execute, besides.

        Output goes to `command_output_listener` as it comes, too. Raises as `CommandLauncher.run`, but in
        the words of `pydantic_ai.workspaces`.
        """
        if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
            raise ValueError("timeout must be a positive finite number or None")
        if isinstance(command, str) != shell:
            raise TypeError("give a string with shell=True, or a sequence of arguments without it")
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        if self._directory is None:
            await asyncio.to_thread(self._ensure_there)
        result = await self._run(
            argv,
            {**self._environment(), **(env or {})},
            timeout=timeout,
            network=network or self._network,
            undecodable=undecodable,
            input_text=input_text,
            readable=readable,
        )
        await self.working_dir()  # a command that ended because the directory went did not end well
        return result

    async def run_attached(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        network: Network,
        attached: AttachedStreams,
        *,
        readable: Sequence[Path] = (),
    ) -> CommandResult:
        """Run a program in the directory for as long as somebody talks with it.

        It gets what every command gets but a `HOME` and a `TMPDIR` of its own, gone with it: what commands
        leave in theirs would else become a part of it, and see its variables. `readable` as in `run`.
        """
        if self._directory is None:
            await asyncio.to_thread(self._ensure_there)
        environment = {**self._environment(), **env}
        if "HOME" not in env:
            del environment["HOME"]
        return await self._run(
            argv, environment, timeout=None, network=network, attached=attached, readable=readable
        )

    async def _run(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        *,
        timeout: float | None,  # noqa: ASYNC109 - as above
        network: Network,
        undecodable: Undecodable = "replace",
        input_text: str | None = None,
        readable: Sequence[Path] = (),
        attached: AttachedStreams | None = None,
    ) -> CommandResult:
        if self._launcher.refusal is not None:
            raise WorkspaceError(self._launcher.refusal)
        directory = await asyncio.to_thread(self.open_directory)
        try:
            with as_workspace_errors():
                async with contextlib.nullcontext() if self.watch is None else self.watch.over_command():
                    result = await self._launcher.run(
                        argv,
                        directory=directory,
                        environment=environment,
                        timeout_seconds=timeout,
                        writable=[] if self._home is None else [self._home],
                        pinned=GIT_PINNED if self._keeps_git else (),
                        sealed=GIT_SEALED if self._keeps_git else (),
                        network=network,
                        policy=self._policy_with(readable),
                        undecodable=undecodable,
                        input_text=input_text,
                        attached=attached,
                    )
        finally:
            # The thread closes it: its number could else be another file's before the thread has used it.
            await asyncio.shield(asyncio.to_thread(self._open_again, directory))
        return CommandResult(exit_code=result.exit_code, stdout=result.stdout, stderr=result.stderr)

    def _open_again(self, directory: int) -> None:
        """Give back what a command took of its owner's rights: else nothing later gets in. Closes it."""
        try:
            give_back_rights(directory)
            if self._home is not None:
                give_back_rights(str(self._home))
        finally:
            os.close(directory)

    def _policy_with(self, readable: Sequence[Path]) -> Policy:
        policy = self._launcher.policy
        return policy._replace(executable=(*policy.executable, *map(str, readable)))

    @property
    def _keeps_git(self) -> bool:
        """Whether the repository is a person's, who runs its hooks later, and is watched over."""
        return self._home is not None and self.watch is not None and self.watch.is_on

    def _ensure_there(self) -> str:
        if self._directory is None:
            try:
                self._directory = os.path.realpath(self.directory, strict=True)
            except OSError as error:
                raise WorkspaceUnavailableError(
                    f"the workspace directory {self.directory} does not exist"
                ) from error
        os.close(open_root(self._directory, self._identity))
        return self._directory

    async def soon(self, operation: Callable[[IsolatedFiles], _T]) -> _T:
        """Do it in the event loop where that takes microseconds; a thread would make a millisecond of them.

        A file tool makes six calls, so with threads they cost more than everything else about it (2026-11).
        """
        if self._files_at_once is not None:
            with contextlib.suppress(NotAtOnce):
                return operation(self._files_at_once)
        return await asyncio.to_thread(lambda: operation(self._isolated()))

    def open_directory(self) -> int:
        """A descriptor of the directory, for passing through; blocks.

        Raises:
            WorkspaceUnavailableError: it is gone, or another one is in its place.
        """
        return open_root(self._ensure_there(), self._identity)

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """Do what takes its time; few at once, because all sessions share the threads."""
        async with _slow_work():
            return await asyncio.to_thread(work)

    async def keep_output(self, name: str, text: str) -> str | None:
        """Keep a command's whole output where later commands find it; the path they use, None: no room.

        The oldest beyond `MAX_KEPT_OUTPUTS` go.
        """

        def keep() -> None:
            directory = self._ensure_there() if self._home is None else os.path.realpath(self._home)
            files, folder = IsolatedFiles(directory), f"{directory}/{OUTPUT_FOLDER}"
            files.write_bytes(f"{folder}/{name}", text.encode("utf-8", errors="backslashreplace"))
            entries, _ = files.scan(folder)
            kept = sorted((entry.name for entry in entries), reverse=True)
            for each in kept[MAX_KEPT_OUTPUTS:]:
                files.remove(f"{folder}/{each}")

        try:
            await self.in_thread(keep)
        except OSError:
            return None
        return f"$HOME/{OUTPUT_FOLDER}/{name}"

    def _isolated(self) -> IsolatedFiles:
        directory = self._directory or self._ensure_there()
        if self._files is None:
            self._files = IsolatedFiles(directory, self._identity)
            if is_on_local_disk(directory):
                self._files_at_once = self._files.at_once()
        return self._files

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self._home or self._directory),
            "PWD": str(self._directory),
            "TERM": "dumb",
            "PAGER": "cat",
            "GIT_TERMINAL_PROMPT": "0",
            # There is nobody to edit: `rebase --continue` and `commit --amend` take the text as it is.
            "GIT_EDITOR": "true",
        }
