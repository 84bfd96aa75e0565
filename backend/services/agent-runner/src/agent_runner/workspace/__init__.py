"""The session's workspace: where its files are and its commands run. Knows nothing of agents or models.

What only legs need is loaded when it is first asked for: it brings pydantic-ai, 28 MB of memory.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

from agent_runner.workspace.directories import (
    list_named_directories,
    open_named_directory,
    open_session_directory,
)
from agent_runner.workspace.isolation import Isolation

if TYPE_CHECKING:
    from agent_runner.workspace.agents_file import (
        AGENTS_FILE,
        MAX_AGENTS_FILE_BYTES,
        NO_FILE,
        AgentsFile,
        AgentsFileReader,
    )
    from agent_runner.workspace.errors import FileOperationFailed
    from agent_runner.workspace.isolated_files import DirectoryEntry, EntryKind, IsolatedFiles
    from agent_runner.workspace.opening import open_workspace
    from agent_runner.workspace.packs import PackFolders, open_packs
    from agent_runner.workspace.programs import find_ripgrep, find_shell
    from agent_runner.workspace.runnable_watch import RunnableWatch
    from agent_runner.workspace.session_workspace import SessionWorkspace
    from agent_runner.workspace.surroundings import describe_surroundings, is_time_zone, local_time_zone

_OF_LEGS: Final = (
    "agents_file",
    "isolated_files",
    "errors",
    "opening",
    "packs",
    "programs",
    "runnable_watch",
    "session_workspace",
    "surroundings",
)

__all__ = [
    "AGENTS_FILE",
    "MAX_AGENTS_FILE_BYTES",
    "NO_FILE",
    "AgentsFile",
    "AgentsFileReader",
    "DirectoryEntry",
    "EntryKind",
    "FileOperationFailed",
    "IsolatedFiles",
    "Isolation",
    "PackFolders",
    "RunnableWatch",
    "SessionWorkspace",
    "describe_surroundings",
    "find_ripgrep",
    "find_shell",
    "is_time_zone",
    "list_named_directories",
    "local_time_zone",
    "open_named_directory",
    "open_packs",
    "open_session_directory",
    "open_workspace",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        for module in (import_module(f"{__name__}.{short}") for short in _OF_LEGS):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
