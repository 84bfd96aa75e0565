"""Failures of commands in the words of pydantic-ai's workspaces, which its tools and the model understand."""

from collections.abc import Generator
from contextlib import contextmanager

from pydantic_ai.workspaces import (
    WorkspaceError,
    WorkspaceOutputLimitError,
    WorkspaceTimeoutError,
    WorkspaceUnavailableError,
)

from stigmer_isolation.errors import (
    CommandTimedOut,
    DirectoryUnavailable,
    IsolationError,
    OutputLimitExceeded,
)


@contextmanager
def as_workspace_errors() -> Generator[None]:
    """Raise what `stigmer_isolation` raises inside as the workspace error that means the same."""
    try:
        yield
    except CommandTimedOut as error:
        raise WorkspaceTimeoutError(str(error), stdout=error.stdout, stderr=error.stderr) from error
    except OutputLimitExceeded as error:
        raise WorkspaceOutputLimitError(
            str(error), limit=error.limit_bytes, stdout=error.stdout, stderr=error.stderr
        ) from error
    except DirectoryUnavailable as error:
        raise WorkspaceUnavailableError(str(error)) from error
    except IsolationError as error:
        raise WorkspaceError(str(error)) from error
