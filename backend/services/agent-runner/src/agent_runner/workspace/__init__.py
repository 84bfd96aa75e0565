"""The session's workspace: where its files are and its commands run. Knows nothing of agents or models."""

from agent_runner.workspace.directories import open_named_directory, open_session_directory
from agent_runner.workspace.errors import FileOperationFailed
from agent_runner.workspace.isolation import Isolation
from agent_runner.workspace.session_workspace import SessionWorkspace

__all__ = [
    "FileOperationFailed",
    "Isolation",
    "SessionWorkspace",
    "open_named_directory",
    "open_session_directory",
]
