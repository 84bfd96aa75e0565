"""What can go wrong in the server.

ServerError
├── StartFailed                 the process cannot start; ends it with `exit_code`
│   ├── SettingsError           the environment has a wrong or missing value (exit code 2)
│   ├── ArgumentsWrong          the command line is not as it should be (exit code 2)
│   ├── AddressTaken            another program holds the address (exit code 3)
│   └── DatabaseUnusable        the database cannot be opened or migrated (exit code 3)
│       ├── DatabaseAway        it does not answer now; trying again can help
│       ├── DatabaseBroken      its file is damaged; a person has to mend it (exit code 4)
│       └── DatabaseNewer       a newer version has changed its tables (exit code 4)
├── CallRefused                 a call is answered with a problem document; trying again cannot help
│   ├── InvalidRequest          the request makes no sense
│   │   └── FeatureNotYet       a manifest's field whose feature does not exist yet
│   ├── Unauthenticated         no token, or a wrong one
│   │   └── SignInRefused       the console's page may not sign in with this
│   ├── Forbidden               the token does not allow the call
│   ├── RateLimited             too many calls with one token; later the same call may work
│   ├── LegInHand               another runner finishes its step; later the same call may work
│   ├── HostNotAllowed          the `Host` header names somebody else
│   ├── NotFound                there is no such thing
│   ├── MethodNotAllowed        the path has no such method
│   ├── Conflict                what is there stands against it
│   │   ├── SessionBusy         the session has an execution in hand
│   │   ├── WorkspaceUnreachable  the server does not reach the files of a session
│   │   ├── AttemptSuperseded   a newer attempt holds the execution
│   │   ├── ExecutionEnded      nothing can be added to the log
│   │   ├── RunnerTooOld        the runner does not read the log's newest form
│   │   ├── InputAlreadyResolved  somebody else was first, it has expired, or its execution has ended
│   │   ├── Woken               a leg would wait for what may have come already
│   │   └── IllegalMove         the event cannot follow what the log holds
│   ├── SecretMissing           a manifest names a secret that is not kept
│   ├── SecretsKeyUnusable      secrets cannot be encrypted or decrypted
│   ├── IdempotencyKeyReused    the same key came with another request
│   ├── PayloadTooLarge         a body, blob or event over its limit
│   └── DigestMismatch          a blob's bytes are not what its name says
└── Unavailable                 something the server needs is away; trying again can help
    ├── DatabaseDamaged         the database is damaged, as was found while it was in use
    └── TemporalUnavailable     Temporal does not answer, or refuses
"""

from typing import Final

from stigmer_contract.api import InputResolution
from stigmer_contract.deciders import by_whom
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.phases import ExecutionPhase

NEEDS_A_PERSON: Final = 4
"""Exit code: what the server keeps is not as it should be, and trying again alone changes nothing."""


class ServerError(Exception):
    """Any failure that the server expects."""


class StartFailed(ServerError):
    """The process cannot start."""

    exit_code = 3


class SettingsError(StartFailed):
    """An environment variable has a wrong value, or a needed one is missing."""

    exit_code = 2

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable}: {problem}")
        self.variable = variable
        self.problem = problem


class ArgumentsWrong(StartFailed):
    """The command line is not as it should be."""

    exit_code = 2

    def __init__(self, arguments: list[str]) -> None:
        super().__init__(f"{' '.join(arguments)!r} is not understood; write --listen HOST:PORT, or nothing")
        self.arguments = arguments


class AddressTaken(StartFailed):
    """The address cannot be listened on."""

    def __init__(self, host: str, port: int, problem: str = "is taken") -> None:
        super().__init__(f"port {port} on {host} {problem}")
        self.host = host
        self.port = port


class DatabaseUnusable(StartFailed):
    """The database cannot be opened or brought to this version's tables."""


class DatabaseAway(DatabaseUnusable):
    """The database does not answer now: its server has not started, or the way to it is cut."""


class DatabaseBroken(DatabaseUnusable):
    """The database's file is damaged. Starting again cannot help before somebody has mended it."""

    exit_code = NEEDS_A_PERSON


class DatabaseNewer(DatabaseUnusable):
    """A newer version has changed the database's tables. Starting again cannot help."""

    exit_code = NEEDS_A_PERSON


class CallRefused(ServerError):
    """A call that is answered with a problem document. The same call again is refused again."""

    code: ErrorCode = ErrorCode.INVALID_REQUEST

    def __init__(self, detail: str, hint: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint


class InvalidRequest(CallRefused):
    """The request makes no sense."""

    code = ErrorCode.INVALID_REQUEST


class FeatureNotYet(InvalidRequest):
    """The manifest uses fields whose feature does not exist yet."""

    code = ErrorCode.FEATURE_NOT_YET

    def __init__(self, fields: list[str]) -> None:
        super().__init__(
            f"{', '.join(fields)}: not yet supported", f"remove {', '.join(fields)} from the manifest"
        )
        self.fields = fields


class Unauthenticated(CallRefused):
    """The call carries no token, or a wrong one."""

    code = ErrorCode.UNAUTHENTICATED

    def __init__(self) -> None:
        super().__init__(
            "the call carries no valid bearer token",
            "send `Authorization: Bearer <token>` with the server's token",
        )


class SignInRefused(Unauthenticated):
    """A page wants to sign in to the console, and may not."""

    def __init__(self, detail: str, hint: str) -> None:
        CallRefused.__init__(self, detail, hint)


class Forbidden(CallRefused):
    """The token is valid, and does not allow the call."""

    code = ErrorCode.FORBIDDEN


class RateLimited(CallRefused):
    """Too many calls with one token. The same call may work after `retry_after_seconds`."""

    code = ErrorCode.RATE_LIMITED

    def __init__(self, what: str, retry_after_seconds: int) -> None:
        super().__init__(f"{what}; try again in {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds


class LegInHand(CallRefused):
    """Another runner finishes its step of the execution. The same call works once it has."""

    code = ErrorCode.UNAVAILABLE

    def __init__(self, execution_id: str, runner: str | None) -> None:
        super().__init__(f"the runner {runner!r} finishes its step of execution {execution_id!r}")


class HostNotAllowed(CallRefused):
    """The `Host` header names a host that this server does not answer for (DNS rebinding)."""

    code = ErrorCode.HOST_NOT_ALLOWED

    def __init__(self, host: str) -> None:
        super().__init__(
            f"host {host!r} is not one that this server answers for", "add it to STIGMER_ALLOWED_HOSTS"
        )
        self.host = host


class NotFound(CallRefused):
    """There is no such thing."""

    code = ErrorCode.NOT_FOUND

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"there is no {kind} {name!r}")
        self.kind = kind
        self.name = name


class MethodNotAllowed(CallRefused):
    """The path has no such method."""

    code = ErrorCode.METHOD_NOT_ALLOWED


class Conflict(CallRefused):
    """What is there stands against the call."""

    code = ErrorCode.CONFLICT


class SessionBusy(Conflict):
    """The session has an execution in hand; executions of a session are ordered."""

    code = ErrorCode.SESSION_BUSY

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"session {session_id!r} has an execution that has not ended", "wait for it to end, or cancel it"
        )
        self.session_id = session_id


class WorkspaceUnreachable(Conflict):
    """The server does not reach the files of a session."""

    code = ErrorCode.WORKSPACE_UNAVAILABLE

    def __init__(self, reason: str) -> None:
        super().__init__(f"could not read the session's files: {reason}")


class AttemptSuperseded(Conflict):
    """Fenced off: a newer attempt holds the execution."""

    code = ErrorCode.ATTEMPT_SUPERSEDED

    def __init__(self, attempt: int, current: int) -> None:
        super().__init__(f"attempt {attempt} was superseded by attempt {current}")
        self.attempt = attempt
        self.current = current


class ExecutionEnded(Conflict):
    """The execution has ended, so nothing can be added to its log."""

    code = ErrorCode.EXECUTION_ENDED

    def __init__(self, execution_id: str, phase: ExecutionPhase) -> None:
        super().__init__(f"execution {execution_id!r} has ended: {phase}")
        self.execution_id = execution_id
        self.phase = phase


class RunnerTooOld(Conflict):
    """The runner does not read the newest form of the log; another one can take the leg."""

    code = ErrorCode.RUNNER_TOO_OLD

    def __init__(self, runner: str, runner_version: str) -> None:
        super().__init__(f"runner {runner!r} of version {runner_version!r} does not read this server's logs")
        self.runner = runner
        self.runner_version = runner_version


class InputAlreadyResolved(Conflict):
    """Something came before the decision."""

    code = ErrorCode.INPUT_RESOLVED

    def __init__(self, input_id: str, resolution: InputResolution) -> None:
        who = by_whom(resolution.resolved_by)
        when = resolution.resolved_at.isoformat(timespec="seconds").replace("+00:00", "Z")
        super().__init__(f"input {input_id!r} is {resolution.outcome} already, since {when}{who}")
        self.input_id = input_id
        self.resolution = resolution


class Woken(Conflict):
    """A leg would wait, or complete the execution, but something has come since it last looked."""

    code = ErrorCode.WOKEN

    def __init__(self, seen: int, woken: int) -> None:
        super().__init__(
            f"event 'leg.ended' knows the log up to {seen}, and event {woken} is to be looked at first",
            "read the log from there",
        )
        self.seen = seen
        self.woken = woken


class IllegalMove(Conflict):
    """The event cannot follow what the log holds."""

    code = ErrorCode.ILLEGAL_MOVE

    def __init__(self, event_type: str, problem: str) -> None:
        super().__init__(f"event {event_type!r} {problem}")
        self.event_type = event_type


class SecretMissing(InvalidRequest):
    """The manifest names a secret that the server does not have."""

    code = ErrorCode.SECRET_MISSING

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the agent needs the secret {name!r}, which is not there", f"run `stigmer secrets set {name}`"
        )
        self.name = name


class SecretsKeyUnusable(CallRefused):
    """Secrets cannot be encrypted or decrypted: the key file is missing, broken, or another one."""

    code = ErrorCode.SECRETS_KEY_UNUSABLE


class IdempotencyKeyReused(CallRefused):
    """The same `Idempotency-Key` came with another request."""

    code = ErrorCode.IDEMPOTENCY_KEY_REUSED

    def __init__(self) -> None:
        super().__init__(
            "the Idempotency-Key was used before, for another request", "use a fresh key for each new request"
        )


class PayloadTooLarge(CallRefused):
    """A body, blob or event is over its limit."""

    code = ErrorCode.PAYLOAD_TOO_LARGE

    def __init__(self, what: str, limit_bytes: int) -> None:
        super().__init__(f"{what} is larger than {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class DigestMismatch(CallRefused):
    """A blob's bytes are not what its name says."""

    code = ErrorCode.DIGEST_MISMATCH

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f"the bytes have the SHA-256 {actual}, not {expected}")
        self.expected = expected
        self.actual = actual


class Unavailable(ServerError):
    """Something that the server needs is away. The same call may work later."""

    code = ErrorCode.UNAVAILABLE

    def __init__(self, detail: str, hint: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint


class DatabaseDamaged(Unavailable):
    """The database is damaged. The same call works again when somebody has mended it."""


class TemporalUnavailable(Unavailable):
    """Temporal does not answer, or refuses for a reason of its own."""
