"""What comes of a command once nothing is left of it: its result, or why there is none. Runs nothing."""

import errno
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from stigmer_isolation.errors import (
    CommandKilled,
    CommandNotStarted,
    CommandTimedOut,
    DirectoryUnavailable,
    OutputLimitExceeded,
)
from stigmer_isolation.running_command import MAX_OUTPUT_BYTES, CommandEnd, EndCause

logger = logging.getLogger(__name__)

_NOT_FOUND: Final = (errno.ENOENT, errno.ENOTDIR)
_NOT_EXECUTABLE: Final = (errno.EACCES, errno.ENOEXEC, errno.EISDIR, errno.ELOOP, errno.EPERM)

Undecodable: TypeAlias = Literal["replace", "surrogateescape"]
"""Names of Python's error handlers: U+FFFD, or what `os.fsencode` turns back into the bytes."""


@dataclass(frozen=True)
class CommandResult:
    """What a command that ended by itself left behind."""

    exit_code: int
    """As shells tell of it: 128 and the signal's number where one ended it."""
    stdout: str
    stderr: str


def result_of(
    end: CommandEnd, program: str, timeout_seconds: float | None, undecodable: Undecodable
) -> CommandResult:
    """What a command that was run left behind.

    Raises:
        CommandTimedOut, OutputLimitExceeded, DirectoryUnavailable, CommandNotStarted, CommandKilled:
            as `CommandLauncher.run`.
        OSError: E2BIG: arguments and environment are too long.
    """
    stdout = end.stdout.decode("utf-8", errors=undecodable)
    stderr = end.stderr.decode("utf-8", errors=undecodable)
    if end.cause is EndCause.TIMEOUT:
        raise CommandTimedOut(
            f"command timed out after {timeout_seconds:g}s and was killed", stdout=stdout, stderr=stderr
        )
    if end.cause is EndCause.DISK:
        raise CommandKilled(
            f"the command was killed by the disk quota: {end.killed_because}; remove files that are not "
            "needed any more"
        )
    if end.cause is EndCause.DIRECTORY:
        raise DirectoryUnavailable("the workspace directory was removed while the command ran")
    if end.cause is EndCause.OUTPUT:
        raise OutputLimitExceeded(
            f"the command wrote over {MAX_OUTPUT_BYTES >> 20} MiB and was killed; redirect its output "
            "to a file and read part of that",
            limit_bytes=MAX_OUTPUT_BYTES,
            stdout=stdout,
            stderr=stderr,
        )
    if end.cause is EndCause.CALLER:
        raise CommandKilled("the command was killed: the runner is stopping")
    if end.report is None:
        raise CommandKilled(
            "the process that watched over the command was killed, and so the command was killed too; "
            "how it ended is unknown"
        )
    if "over_share" in end.report:
        raise CommandKilled(
            f"the command was killed by the limit of processes: what this session runs had more than "
            f"{end.report['over_share']} processes and threads at once; start fewer of them side by side"
        )
    if "errno" in end.report:
        return _failed_start(program, str(end.report["stage"]), int(end.report["errno"]))
    if end.report["survivors"]:
        logger.warning("%d processes of a command could not be killed", end.report["survivors"])
    return CommandResult(exit_code=int(end.report["exit_code"]), stdout=stdout, stderr=stderr)


def check_text(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Refuse what no process can be given, before anything is started."""
    if not argv:
        raise ValueError("command must not be empty")
    for text in (*argv, *environment, *environment.values()):
        if b"\0" in os.fsencode(text):
            raise ValueError("a command's arguments and environment cannot hold a null byte")
    for name in environment:
        if not name or "=" in name:
            raise ValueError(f"{name!r} is no name of an environment variable")


def _failed_start(program: str, stage: str, number: int) -> CommandResult:
    reason = os.strerror(number)
    if stage == "directory":
        raise DirectoryUnavailable(f"could not enter the workspace directory: {reason}")
    if stage == "exec" and number in _NOT_FOUND:
        return CommandResult(exit_code=127, stdout="", stderr=f"{program}: command not found\n")
    if stage == "exec" and number in _NOT_EXECUTABLE:
        return CommandResult(exit_code=126, stdout="", stderr=f"{program}: {reason}\n")
    if stage == "isolation":
        raise CommandNotStarted(f"the command was not started, because it could not be isolated: {reason}")
    if number == errno.E2BIG:
        raise OSError(number, reason)
    raise could_not_start(reason)


def could_not_start(reason: str | None) -> CommandNotStarted:
    """What is raised where nothing of a command was executed."""
    return CommandNotStarted(f"could not start the command: {reason}")
