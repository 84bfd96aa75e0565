"""What can go wrong in the runner.

RunnerError
├── SettingsError           the environment has a wrong or missing value; the process ends with 2
├── CommandLineIncompatible the command line that started the runner is of another version; ends with 2, too
├── ServerRefused           the server answered with a problem document
│   └── AttemptSuperseded   another attempt holds the execution, or it has ended
└── ExecutionFailure        the execution must end as failed, for this reason
"""

import traceback

from stigmer_contract.error_codes import ErrorCode


class RunnerError(Exception):
    """Any failure that the runner expects."""


class SettingsError(RunnerError):
    """An environment variable has a wrong value, or a needed one is missing."""

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable}: {problem}")
        self.variable = variable
        self.problem = problem


class CommandLineIncompatible(RunnerError):
    """The command line that started the runner is of a version that does not go with the runner's."""

    def __init__(self, ours: str, theirs: str) -> None:
        super().__init__(
            f"could not start the runner: it is version {ours}, which does not go with stigmer {theirs}; "
            f"use the runner's image of version {theirs}, or install stigmer {ours}"
        )
        self.ours = ours
        self.theirs = theirs


class ServerRefused(RunnerError):
    """The server answered, and refused. The same call again is refused again."""

    def __init__(self, status: int, code: ErrorCode | None, detail: str) -> None:
        super().__init__(f"the server answered {status}: {detail}")
        self.status = status
        self.code = code


class AttemptSuperseded(ServerRefused):
    """A newer attempt holds the execution, or it has ended; this leg must fall silent."""


class ExecutionFailure(RunnerError):
    """The execution ends as failed. `message` and `hint` are for the person who started it."""

    def __init__(self, code: ErrorCode, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


def stack_of(error: BaseException) -> str:
    """Where an unexpected error came from, for the log: its types and places, but not its messages, which
    may quote a prompt or a file."""
    lines: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        lines.append("".join(traceback.format_tb(cause.__traceback__)) + type(cause).__name__)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\ncaused by\n".join(lines)
