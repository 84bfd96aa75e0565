"""Starts commands through a zygote, and a new one where that has died. One launcher serves one program.

A command gets a scrubbed environment, its whole input at the start or none, and a session of its own; nothing
it started outlives it. What it may use is the launcher's policy, and the directories that the caller adds.
"""

import asyncio
import contextlib
import errno
import functools
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from stigmer_isolation.attached_streams import AttachedStreams
from stigmer_isolation.bubblewrap import Bubblewrap, View
from stigmer_isolation.command_environment import command_environment
from stigmer_isolation.command_policy import command_policy, withhold
from stigmer_isolation.command_results import (
    CommandResult,
    Undecodable,
    check_text,
    could_not_start,
    result_of,
)
from stigmer_isolation.disk_quota import CHECK_SECONDS, DiskQuotas, DiskWatch
from stigmer_isolation.running_command import CommandEnd, EndCause, RunningCommand
from stigmer_isolation.search_path import searched
from stigmer_isolation.web_access import WebAccess
from stigmer_isolation.zygote.policy import Network, Policy
from stigmer_isolation.zygote.tree_removal import remove_tree
from stigmer_isolation.zygotes import Zygote, Zygotes

logger = logging.getLogger(__name__)

START_TRIES: Final = 3
"""How often a command is handed to a new zygote when the old one died before it started the command."""
SEND_SECONDS: Final = 5.0
"""Longest wait for a zygote that does not take commands, before it is replaced."""
PROCESSES_SECONDS: Final = 5.0
"""How long a command is tried again while no process is to be had: another session's bomb ends sooner."""
PROCESSES_PAUSE_SECONDS: Final = 0.1
SWEEP_SECONDS: Final = 10.0
"""Longest wait for the zygote to kill what a dead supervisor left behind."""


class CommandLauncher:
    """Runs commands. An async context manager: inside, the zygote is there; at its end all is killed."""

    def __init__(
        self,
        base_environment: Mapping[str, str] | None = None,
        *,
        temporary_root: Path | None = None,
        policy: Policy | None = None,
        quotas: DiskQuotas | None = None,
        web: WebAccess | None = None,
        held: Sequence[int] = (),
        tell_in_hand: Callable[[int], None] | None = None,
    ) -> None:
        """`base_environment` is what every command gets; default: where programs usually are, UTF-8.

        Each command gets a temporary directory of its own, removed with it, in `temporary_root`; default:
        the system's. `policy` holds every command; default: the strongest this machine allows. `quotas`
        bound what they may write, default: nothing does; `web` is what `network: web` means. What watches
        over commands keeps the descriptors of `held` open until the last of them has ended; a lock, say.
        `tell_in_hand` is told how many there are, before one is begun and when nothing is left of it.
        """
        self._base_environment = dict(
            command_environment({}) if base_environment is None else base_environment
        )
        self.policy = command_policy(self._base_environment.get("PATH", "")) if policy is None else policy
        """What commands may use; read before each command, so a change holds from the next one on."""
        self.bubblewrap: Bubblewrap | None = None
        """What hides from commands what they may not use, besides; read before each command, too."""
        self.refusal: str | None = None
        """Why commands are not run at all, for who asks for one to tell instead."""
        self.warning: str | None = None
        """What a person has to know about each command's isolation."""
        self.started_commands = 0
        """How many commands there were so far."""
        self._quotas = DiskQuotas(None) if quotas is None else quotas
        self.web = WebAccess() if web is None else web
        """What `network: web` opens; read before each command."""
        self.temporary_root = str(temporary_root or tempfile.gettempdir())
        """Where commands have their directories for temporary files."""
        self._zygotes = Zygotes(self.temporary_root, held)
        self._withheld = set[str]()
        self._is_closed = False
        self._removing = set[asyncio.Task[bool]]()
        self._in_hand: dict[RunningCommand, asyncio.Task[CommandEnd]] = {}
        self._tell_in_hand = tell_in_hand
        self._unended = 0

    async def __aenter__(self) -> Self:
        """Start the zygote now, while this process has little to hide and little to copy."""
        with self._zygotes.use():
            return self

    async def __aexit__(self, *_: object) -> None:
        """Kill what runs, and end the zygotes."""
        await self.close()

    def withhold(self, directory: str) -> None:
        """See that no command gets at the directory by a grant, from the next one on: one can write there."""
        if directory not in self._withheld:
            self.policy = withhold(self.policy, [directory])
            self._withheld.add(directory)

    @property
    def base_environment(self) -> Mapping[str, str]:
        """What every command gets."""
        return self._base_environment

    @property
    def zygote_pid(self) -> int | None:
        """Pid of the zygote that is not in bubblewrap, for diagnosis; None before the first command."""
        return self._zygotes.pid

    async def close(self) -> None:
        """Kill what runs, end the zygotes, and refuse later commands. Can be called again."""
        self._is_closed = True
        in_hand = dict(self._in_hand)
        for command in in_hand:
            command.kill(EndCause.CALLER)
        if in_hand:
            await asyncio.wait(in_hand.values())
        await self._zygotes.close()
        if self._removing:
            await asyncio.wait(self._removing)

    async def run(
        self,
        argv: Sequence[str],
        *,
        directory: int,
        environment: Mapping[str, str],
        timeout_seconds: float | None,
        writable: Sequence[Path] = (),
        pinned: Sequence[str] = (),
        sealed: Sequence[str] = (),
        network: Network = "none",
        policy: Policy | None = None,
        undecodable: Undecodable = "replace",
        input_text: str | None = None,
        attached: AttachedStreams | None = None,
    ) -> CommandResult:
        """Run a command in the open `directory` to its end; nothing of it is left when this returns.

        It may write there, and beneath the directories in `writable`. Where there are any, the directory is
        taken for a person's own, of which only growth counts for the quota. `pinned` and `sealed` are
        directories in it, as `Policy` has them. `policy` replaces the launcher's. `undecodable` is what
        becomes of output that is not UTF-8. `input_text` is what the command finds on standard input. With
        `attached` somebody talks with it meanwhile: its output is no part of the result, and there may be any
        amount of it.

        Raises:
            CommandTimedOut: it took longer than the timeout.
            OutputLimitExceeded: it wrote more than `MAX_OUTPUT_BYTES`.
            DirectoryUnavailable: the directory cannot be entered, or is gone.
            CommandNotStarted: nothing of it was executed.
            CommandKilled: a quota, the end of the launcher, or the death of its supervisor killed it.
            OSError: E2BIG: arguments and environment are too long.
        """
        policy = self.web.allow(policy or self.policy, network)
        merged = {**self._base_environment, **self.web.environment(network), **environment}
        merged["PATH"] = searched(merged.get("PATH", ""), policy, directory, writable)
        check_text(argv, merged)
        policy = policy._replace(
            writable=(*policy.writable, *map(str, writable)),
            pinned=(*policy.pinned, *pinned),
            sealed=(*policy.sealed, *sealed),
        )
        view = None if self.bubblewrap is None else View.of(directory, policy)
        # In bubblewrap nobody else has a number.
        others = () if view is not None else (os.getpid(), os.getpgrp())
        request = {
            "argv": list(argv),
            "env": merged,
            "input": input_text,
            "directory": None if view is None else view.directory,
            "has_input": attached is not None,
            "policy": policy._replace(
                protected=(1, *others),
                # In bubblewrap what is there is the view's own already.
                shared_memory=policy.shared_memory if view is None else "given",
            ).to_request(),
        }
        loop = asyncio.get_running_loop()
        deadline = None if timeout_seconds is None else loop.time() + timeout_seconds
        self.started_commands += 1
        tries, wait_until = 0, loop.time() + PROCESSES_SECONDS
        while tries < START_TRIES:
            tries += 1
            with self._counting(), self._zygote(view) as zygote:
                command = await self._start(zygote, directory, attached, policy.session_processes)
                if command is None:
                    continue
                remaining = None if deadline is None else max(0.0, deadline - loop.time())
                with self._temporary(zygote) as temporary:
                    with self._quotas.watch(
                        directory,
                        is_own=not writable,
                        also_own=[*([] if temporary is None else [temporary]), *map(str, writable)],
                        first_process=functools.partial(_first_process, zygote, command),
                    ) as disk:
                        watching = asyncio.create_task(_watch(command, directory, disk))
                        whole = request | {"temporary": temporary}
                        end = await self._attend(zygote, command, whole, remaining, watching)
                    if _has_no_process(end) and attached is None and loop.time() < wait_until:
                        tries -= 1
                        await asyncio.sleep(PROCESSES_PAUSE_SECONDS)
                    elif end.supervisor is not None or end.report is not None or end.cause is not None:
                        await _sweep(zygote, end)
                        return result_of(end, argv[0], timeout_seconds, undecodable)
        raise could_not_start(f"the process that starts commands keeps dying{await self._why(view)}")

    @contextlib.contextmanager
    def _zygote(self, view: View | None) -> Generator[Zygote]:
        if self._is_closed:
            raise could_not_start("the runner is stopping")
        with contextlib.ExitStack() as used:
            try:
                zygote = used.enter_context(self._zygotes.use(self.bubblewrap, view))
            except OSError as error:
                raise could_not_start(error.strerror) from error
            yield zygote

    @contextlib.contextmanager
    def _counting(self) -> Generator[None]:
        try:
            self._count(1)
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        self._unended += change
        if self._tell_in_hand is not None:
            self._tell_in_hand(self._unended)

    @contextlib.contextmanager
    def _temporary(self, zygote: Zygote) -> Generator[str | None]:
        """A command's directory for temporary files. Its supervisor removes it, if it can and is quick."""
        path = zygote.temporary.make()
        try:
            yield path
        finally:
            if path is not None and os.path.lexists(path):
                task = asyncio.create_task(asyncio.to_thread(remove_tree, path))
                self._removing.add(task)
                task.add_done_callback(self._removing.discard)

    async def _why(self, view: View | None) -> str:
        if self.bubblewrap is None or view is None:
            return ""
        return f": {await asyncio.to_thread(self.bubblewrap.why_not, view)}"

    async def _start(
        self, zygote: Zygote, directory: int, attached: AttachedStreams | None, share: int | None
    ) -> RunningCommand | None:
        """Hand a command over; None where the zygote does not live any more."""
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            try:
                control, their_control = socket.socketpair()
                ours.callback(control.close)
                theirs.callback(their_control.close)
                pipes = [os.pipe() for _ in range(2)]
                for reader, writer in pipes:
                    ours.callback(os.close, reader)
                    theirs.callback(os.close, writer)
                inputs = list[int]()
                if attached is not None:
                    reader, writer = os.pipe()
                    theirs.callback(os.close, reader)
                    attached.take_input(writer)
                    inputs.append(reader)
            except OSError as error:
                raise could_not_start(error.strerror) from error
            descriptors = [their_control.fileno(), *(writer for _, writer in pipes), directory, *inputs]
            if not await _hand_over(zygote, descriptors, share):
                return None
            readers = (reader for reader, _ in pipes)
            command = RunningCommand(
                control,
                *readers,
                has_our_pids=not zygote.process.is_in_bubblewrap,
                attached=attached,
            )
            ours.pop_all()
        return command

    async def _attend(
        self,
        zygote: Zygote,
        command: RunningCommand,
        request: Mapping[str, object],
        timeout_seconds: float | None,
        watching: "asyncio.Task[None]",
    ) -> CommandEnd:
        """Wait in a task of its own, so that a cancelled caller leaves nothing behind."""
        task = asyncio.create_task(command.run(request, timeout_seconds, on_silence=zygote.process.kill))
        self._in_hand[command] = task
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            command.kill(EndCause.CALLER)
            await asyncio.wait(
                {task}
            )  # cancelled once more the caller goes, and the task still does its work
            if not task.cancelled() and task.exception() is None:
                await _sweep(zygote, task.result())
            raise
        finally:
            if not task.done():  # cancelled once more
                self._count(1)
                task.add_done_callback(lambda _: self._count(-1))
            del self._in_hand[command]
            watching.cancel()
            await asyncio.wait({watching})  # it uses the directory, which is closed next


def _has_no_process(end: CommandEnd) -> bool:
    """Whether nothing of it was executed because the machine, or the container, has no process left."""
    return (
        end.cause is None
        and end.report is not None
        and (end.report.get("stage"), end.report.get("errno")) == ("fork", errno.EAGAIN)
    )


def _first_process(zygote: Zygote, command: RunningCommand) -> int | None:
    """The process that all of a command's descend from; in bubblewrap all of its view's."""
    return zygote.process.pid if zygote.process.is_in_bubblewrap else command.supervisor


async def _hand_over(zygote: Zygote, descriptors: list[int], share: int | None) -> bool:
    """Let the zygote have them; whether it lived to take them."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + SEND_SECONDS
    while True:
        try:
            zygote.process.send(descriptors, share)
        except BlockingIOError:  # more commands at once than its queue holds
            if loop.time() > give_up_at:
                zygote.process.kill()
            await asyncio.sleep(0.005)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise could_not_start(error.strerror) from error
            zygote.process.kill()
            return False
        else:
            return True


async def _sweep(zygote: Zygote, end: CommandEnd) -> None:
    """Where the supervisor died or hangs, see that the zygote kills what it leaves behind."""
    if end.report is not None:
        return
    logger.warning("the supervisor of a command died or hangs; killing what it left behind")
    if not await asyncio.to_thread(zygote.process.sweep, end, SWEEP_SECONDS):
        logger.error("processes of a command may still run: the process that starts commands does not answer")
        zygote.process.kill()


async def _watch(command: RunningCommand, directory: int, disk: DiskWatch | None) -> None:
    """Look until cancelled. A directory that cannot be looked at is no reason to kill."""
    looking: asyncio.Task[str | None] | None = None
    try:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            with contextlib.suppress(OSError):
                if os.fstat(directory).st_nlink == 0:  # in bubblewrap the command itself cannot see that
                    command.kill(EndCause.DIRECTORY)
                    return
                if disk is None:
                    continue
                looking = asyncio.create_task(asyncio.to_thread(disk.why_over))
                reason = await asyncio.shield(looking)
                if reason is not None:
                    command.kill(EndCause.DISK, reason)
                    return
    finally:
        if looking is not None:
            await asyncio.wait({looking})  # a thread goes on, and uses what is closed next
