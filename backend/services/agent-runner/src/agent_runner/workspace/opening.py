"""Opens the workspace of an execution's leg, with the watch over files that other programs execute."""

from agent_runner.settings import RunnerSettings
from agent_runner.workspace.directories import open_named_directory, open_session_directory
from agent_runner.workspace.runnable_watch import WATCHED, RunnableWatch
from agent_runner.workspace.session_workspace import SessionWorkspace
from stigmer_contract.isolation_words import Network
from stigmer_isolation.launcher import CommandLauncher


def open_workspace(
    settings: RunnerSettings,
    launcher: CommandLauncher,
    *,
    session_id: str,
    execution_id: str,
    named: str | None,
    network: Network,
) -> SessionWorkspace:
    """The directory that a session works in: its own, or the one that it was given. Blocks.

    Raises:
        ExecutionFailure: it cannot be used.
    """
    root = settings.sandbox_root_dir
    own = open_session_directory(root, session_id)
    if named is None:
        workspace = SessionWorkspace(own, launcher=launcher, network=network)
    else:
        # A person's own directory; dotfiles and caches of commands do not belong into it.
        directory = open_named_directory(named, session_id, settings)
        launcher.withhold(str(directory.path))
        workspace = SessionWorkspace(
            directory.path, launcher=launcher, home=own, network=network, identity=directory.identity
        )
    workspace.watch = RunnableWatch(
        workspace.directory, workspace.open_directory, root / WATCHED / execution_id, settings.protect_git
    )
    workspace.watch.begin()
    return workspace
