"""What can go wrong with a command.

IsolationError
├── DirectoryUnavailable    the directory it starts in is gone, or cannot be entered
├── CommandNotStarted       nothing of it was executed
├── CommandTimedOut         it took too long, and was killed
├── OutputLimitExceeded     it wrote too much, and was killed
└── CommandKilled           it was killed for another reason
"""


class IsolationError(Exception):
    """Any failure that this package expects. A retry can help unless a subclass says otherwise."""


class DirectoryUnavailable(IsolationError):
    """The directory is gone, or cannot be entered; a retry fails as well."""


class CommandNotStarted(IsolationError):
    """Nothing of the command was executed."""


class CommandTimedOut(IsolationError):
    """It took longer than it may, and was killed with all that it started."""

    def __init__(self, message: str, *, stdout: str, stderr: str) -> None:
        """With what it had written until then."""
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr


class OutputLimitExceeded(IsolationError):
    """It wrote more than it may, and was killed with all that it started."""

    def __init__(self, message: str, *, limit_bytes: int, stdout: str, stderr: str) -> None:
        """With what it had written until then."""
        super().__init__(message)
        self.limit_bytes = limit_bytes
        self.stdout = stdout
        self.stderr = stderr


class CommandKilled(IsolationError):
    """It was killed: by a quota, because its starter stops, or because its supervisor was killed."""
