"""The session's workspace: where its files are and its commands run. Knows nothing of agents or models."""

from agent_runner.workspace.confined_files import ConfinedFiles, DirectoryEntry, EntryKind
from agent_runner.workspace.directories import (
    list_named_directories,
    open_named_directory,
    open_session_directory,
)
from agent_runner.workspace.errors import FileOperationFailed
from agent_runner.workspace.isolation import Isolation
from agent_runner.workspace.programs import find_ripgrep, find_shell
from agent_runner.workspace.runnable_watch import WATCHED, RunnableWatch
from agent_runner.workspace.session_workspace import SessionWorkspace

__all__ = [
    "WATCHED",
    "ConfinedFiles",
    "DirectoryEntry",
    "EntryKind",
    "FileOperationFailed",
    "Isolation",
    "RunnableWatch",
    "SessionWorkspace",
    "find_ripgrep",
    "find_shell",
    "list_named_directories",
    "open_named_directory",
    "open_session_directory",
]
