"""The session's workspace: where its files are and its commands run. Knows nothing of agents or models."""

from agent_runner.workspace.command_environment import command_environment
from agent_runner.workspace.command_policy import command_policy
from agent_runner.workspace.directories import open_named_directory, open_session_directory
from agent_runner.workspace.disk_quota import DiskQuotas
from agent_runner.workspace.enclosure import Bubblewrap
from agent_runner.workspace.errors import FileOperationFailed
from agent_runner.workspace.isolation import Isolation, IsolationLevel, measure_isolation
from agent_runner.workspace.launcher import CommandLauncher
from agent_runner.workspace.process_limit import calibrate_process_limit
from agent_runner.workspace.process_protection import protect_process
from agent_runner.workspace.running_command import OutputListener, StreamName, command_output_listener
from agent_runner.workspace.session_workspace import SessionWorkspace
from agent_runner.workspace.temporary_root import remove_abandoned_roots
from agent_runner.workspace.web_access import WebAccess

__all__ = [
    "Bubblewrap",
    "CommandLauncher",
    "DiskQuotas",
    "FileOperationFailed",
    "Isolation",
    "IsolationLevel",
    "OutputListener",
    "SessionWorkspace",
    "StreamName",
    "WebAccess",
    "calibrate_process_limit",
    "command_environment",
    "command_output_listener",
    "command_policy",
    "measure_isolation",
    "open_named_directory",
    "open_session_directory",
    "protect_process",
    "remove_abandoned_roots",
]
