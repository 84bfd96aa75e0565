"""The session's workspace: where its files are and its commands run. Knows nothing of agents or models."""

from agent_runner.workspace.command_environment import command_environment
from agent_runner.workspace.directories import open_named_directory, open_session_directory
from agent_runner.workspace.errors import FileOperationFailed
from agent_runner.workspace.launcher import CommandLauncher
from agent_runner.workspace.process_protection import protect_process
from agent_runner.workspace.running_command import OutputListener, StreamName, command_output_listener
from agent_runner.workspace.session_workspace import SessionWorkspace

__all__ = [
    "CommandLauncher",
    "FileOperationFailed",
    "OutputListener",
    "SessionWorkspace",
    "StreamName",
    "command_environment",
    "command_output_listener",
    "open_named_directory",
    "open_session_directory",
    "protect_process",
]
