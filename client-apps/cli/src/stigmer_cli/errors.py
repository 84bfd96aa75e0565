"""What can go wrong in the command line. The exit code belongs to the class.

StigmerError                    exit 1: what was asked for failed
├── NotYet                      a feature that a later version brings
├── CallRefused                 the server answered with a problem; carries its stable code
├── ManifestInvalid             a manifest has problems, which have been printed
├── ExecutionFailed             the execution that was followed failed, or somebody cancelled it
├── OutputFailed                what was to be printed could not be written
├── WaitsForPerson              exit 4: the execution waits, and nobody is here to be asked
├── ToolsNotAccepted            exit 4: tools of MCP servers changed, and nobody has accepted that
├── Interrupted                 exit 130: the person pressed Ctrl-C
├── UsageError                  exit 2: the command was called wrongly
│   └── ConfigurationError      a setting of the environment or of config.yaml is wrong
└── EnvironmentNotReady         exit 3: this machine is not in the needed state
    ├── HomeUnusable            STIGMER_HOME cannot be made, read or written
    ├── PortTaken               a needed port is held by another program
    ├── ProgramMissing          a program that the stack runs is not installed
    ├── BackupFailed            the database cannot be copied before another version changes it
    ├── ServiceManagerFailed    systemd or launchd is not there, or refuses
    ├── StackNotInstalled       this is the client alone, and a stack is wanted
    ├── ComponentFailed         a part of the stack did not start, or keeps ending
    ├── ComponentNotReady       a part of the stack runs, and says that it is not ready
    ├── NotReadyInTime          parts of the stack were waited for, and did not become ready in time
    ├── ServerUnreachable       nothing answers at the server's address, or the connection broke for good
    ├── ConsoleNotBuilt         the server has no page for the console
    ├── EngineNotReady          the container engine that is wanted cannot be used
    ├── ImageUnavailable        the runner's image is not here, and cannot be had
    ├── ImageIncompatible       the runner's image is of another version, or no runner at all
    ├── ImageUntrusted          the runner's image is not signed by whom it must be, or that cannot be told
    ├── ModelNotConfigured      no model is named anywhere
    └── StackNotRunning         the local stack is needed, and not there
"""

from pathlib import Path
from typing import ClassVar


class StigmerError(Exception):
    """Any failure that the command line expects: one message, and mostly one hint.

    The message says what was attempted, on what, and what happened; the hint is an imperative sentence.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NotYet(StigmerError):
    """The feature is named in the help, but a later version brings it."""


class CallRefused(StigmerError):
    """The server answered a call with a problem document. A retry helps only where `code` says so."""

    def __init__(self, message: str, hint: str | None, *, code: str, status: int) -> None:
        super().__init__(message, hint)
        self.code = code
        self.status = status


class OutputFailed(StigmerError):
    """Standard output took no more: its disk is full, say."""


class ManifestInvalid(StigmerError):
    """A manifest cannot be used. Its problems have been printed, each with its place."""


class ExecutionFailed(StigmerError):
    """The execution ended without an answer."""


class WaitsForPerson(StigmerError):
    """The execution that was followed waits for a person, and there is no terminal to ask one at. It goes on
    waiting."""

    exit_code = 4

    def __init__(self, execution_id: str, title: str, how: str) -> None:
        super().__init__(
            f"execution {execution_id} waits for a person: {title}",
            f"{how} `stigmer executions follow {execution_id}` then shows how it goes on",
        )
        self.execution_id = execution_id


class ToolsNotAccepted(StigmerError):
    """MCP servers offer other tools than were pinned, and a person has to accept them. All was applied."""

    exit_code = 4

    def __init__(self, servers: list[str]) -> None:
        super().__init__(
            f"changed tools of MCP servers wait to be accepted: {', '.join(servers)}",
            "apply again with --accept-tools once you have read what changed",
        )
        self.servers = servers


class Interrupted(StigmerError):
    """The person pressed Ctrl-C, and knows it: said as a remark, not as an error."""

    exit_code = 130


class UsageError(StigmerError):
    """The command was called in a way that cannot work."""

    exit_code = 2


class ConfigurationError(UsageError):
    """A setting has a wrong value, or an unknown name.

    `where` is a variable, a flag, or `FILE:LINE:COLUMN`.
    """

    def __init__(self, where: str, problem: str, hint: str | None = None) -> None:
        super().__init__(f"{where}: {problem}", hint)
        self.where = where
        self.problem = problem


class EnvironmentNotReady(StigmerError):
    """The machine lacks something: a port, a program, a writable folder, the network."""

    exit_code = 3


class HomeUnusable(EnvironmentNotReady):
    """The state folder cannot be made, read or written."""

    def __init__(self, path: Path, reason: str, hint: str | None = None) -> None:
        super().__init__(
            f"could not use the state folder {str(path)!r}: {reason}",
            hint or "set STIGMER_HOME to a folder that you alone can write to",
        )
        self.path = path
        self.reason = reason


class PortTaken(EnvironmentNotReady):
    """A port that the stack needs is held by another program. `holder` names it where that is allowed."""

    def __init__(self, component: str, port: int, holder: str | None, setting: str) -> None:
        super().__init__(
            f"could not start {component}: port {port} is held by {holder or 'another program'}",
            f"stop that program, or choose another port with `stigmer config set {setting} PORT`",
        )
        self.component = component
        self.port = port
        self.holder = holder


class ProgramMissing(EnvironmentNotReady):
    """A program that the stack starts is not installed beside this Python."""

    def __init__(self, program: str, hint: str) -> None:
        super().__init__(f"could not find the program {program!r}", hint)
        self.program = program


class BackupFailed(EnvironmentNotReady):
    """The database cannot be copied, and another version is about to change it."""

    def __init__(self, database: Path, reason: str) -> None:
        super().__init__(
            f"could not keep a copy of {str(database)!r} before this version changes it: {reason}",
            "make room on that disk, or go on with the version before",
        )
        self.database = database
        self.reason = reason


class ServiceManagerFailed(EnvironmentNotReady):
    """What starts programs with the system cannot be used. `manager` is `systemd` or `launchd`."""

    def __init__(self, manager: str, reason: str) -> None:
        super().__init__(
            f"could not have {manager} start the stack: {reason}",
            "log in as this user, not by `su`, or see what would be installed with `--print`",
        )
        self.manager = manager
        self.reason = reason


class StackNotInstalled(EnvironmentNotReady):
    """This is the client alone, which has no stack to start."""

    def __init__(self, missing: str) -> None:
        super().__init__(
            f"could not start the local stack: {missing} is not installed beside this stigmer",
            "install the whole of Stigmer (docs/guides/installing.md), or name a server with "
            "STIGMER_BACKEND_ENDPOINT and STIGMER_TOKEN",
        )
        self.missing = missing


class ComponentFailed(EnvironmentNotReady):
    """A part of the stack did not become ready, or ended again and again."""

    def __init__(self, component: str, reason: str, last_lines: tuple[str, ...] = ()) -> None:
        said = "".join(f"\n  {line}" for line in last_lines)
        super().__init__(
            f"could not start {component}: {reason}{said}",
            f"run `stigmer server logs --{component}` to see more",
        )
        self.component = component
        self.reason = reason
        self.last_lines = last_lines


class ComponentNotReady(EnvironmentNotReady):
    """A part of the stack runs, was ready, and says now why it is not."""

    def __init__(self, component: str, reason: str) -> None:
        super().__init__(
            f"the stack is already running, but {component} is not ready: {reason}",
            "run `stigmer server status` to see how each part stands",
        )
        self.component = component
        self.reason = reason


class NotReadyInTime(EnvironmentNotReady):
    """Parts of the stack did not become ready in time. `waited_for`: why each is not, by its name."""

    def __init__(self, timeout_seconds: float, waited_for: dict[str, str]) -> None:
        named = "; ".join(f"{name}: {reason}" for name, reason in waited_for.items())
        super().__init__(
            f"could not start the stack within {timeout_seconds:g} s: still waiting for {named}",
            "run `stigmer server logs` to see what they say, or pass a longer `--timeout`",
        )
        self.timeout_seconds = timeout_seconds
        self.waited_for = waited_for


class StackNotRunning(EnvironmentNotReady):
    """The local stack is needed, and does not run."""

    def __init__(self) -> None:
        super().__init__("the local stack is not running", "run `stigmer server start`")


class ServerUnreachable(EnvironmentNotReady):
    """Nothing answers at the server's address. A retry helps once it runs."""

    def __init__(self, endpoint: str, reason: str, hint: str | None = None) -> None:
        super().__init__(
            f"could not reach the server at {endpoint}: {reason}",
            hint or "run `stigmer server status` to see what runs",
        )
        self.endpoint = endpoint
        self.reason = reason


class ConsoleNotBuilt(EnvironmentNotReady):
    """The server has no page for the console: it is run from a checkout."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(
            f"the server at {endpoint} has no console: it runs from a checkout where the page was not built",
            "run `make web` there, then `stigmer server restart`",
        )
        self.endpoint = endpoint


class EngineNotReady(EnvironmentNotReady):
    """The container engine that is wanted cannot be used, or failed at a call.

    `has_none`: there is none to be used. `is_away`: it is installed, and waiting for it may help.
    """

    def __init__(
        self, message: str, hint: str | None = None, *, has_none: bool = False, is_away: bool = False
    ) -> None:
        super().__init__(message, hint)
        self.has_none = has_none
        self.is_away = is_away


class ImageUnavailable(EnvironmentNotReady):
    """The runner's image is not here, and cannot be had.

    `can_retry`: waiting may help. `has_none`: there is none, as its registry or a setting says.
    """

    def __init__(self, message: str, hint: str | None, *, can_retry: bool, has_none: bool = False) -> None:
        super().__init__(message, hint)
        self.can_retry = can_retry
        self.has_none = has_none


class ImageIncompatible(EnvironmentNotReady):
    """The runner's image is of another version, for another machine, or no runner at all."""


class ImageUntrusted(EnvironmentNotReady):
    """Signature or provenance of the runner's image is missing or wrong, or cannot be checked."""


class ModelNotConfigured(EnvironmentNotReady):
    """Neither manifest, flag, environment nor config.yaml names a model, and no Ollama runs."""
