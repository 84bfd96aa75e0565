"""What a workspace raises beside the errors of `pydantic_ai.workspaces` and the builtin file errors.

WorkspaceError (pydantic-ai)
└── FileOperationFailed     the machine could not do it: full disk, too many open files, read-only volume
"""

from pydantic_ai.workspaces import WorkspaceError


class FileOperationFailed(WorkspaceError, OSError):
    """A file operation failed for no fault of the path; tools report it to the model as a failed call.

    A plain OSError would end the agent's run instead. A retry can help once the machine's state has changed.
    """

    def __init__(self, number: int, reason: str, path: str) -> None:
        """The three parts of an OSError."""
        OSError.__init__(self, number, reason, path)

    def __str__(self) -> str:
        """The text that the model reads."""
        return f"the operation on {self.filename!r} failed: {self.strerror}"
