"""pydantic-ai's rules for workspaces, held by the session's workspace."""

import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest
from pydantic_ai.messages import WorkspaceRef
from pydantic_ai.workspaces import WorkspaceBackend
from pydantic_ai.workspaces.conformance import WorkspaceBackendSuite

from agent_runner.workspace import SessionWorkspace
from bubblewrap import working_bubblewrap
from stigmer_isolation.launcher import CommandLauncher


class TestSessionWorkspaceConforms(WorkspaceBackendSuite):
    """Every rule, but for background jobs: here they end with their command."""

    @pytest.fixture(params=["no bubblewrap", "bubblewrap"])
    async def launcher(self, request: pytest.FixtureRequest) -> AsyncGenerator[CommandLauncher]:
        async with CommandLauncher() as launcher:
            if request.param == "bubblewrap":
                launcher.bubblewrap = working_bubblewrap()
            yield launcher

    @pytest.fixture
    def backend(self, tmp_path: Path, launcher: CommandLauncher) -> WorkspaceBackend:
        return SessionWorkspace(tmp_path, launcher=launcher)

    @pytest.fixture
    def destructive_backend(
        self, tmp_path: Path, launcher: CommandLauncher
    ) -> Callable[[], WorkspaceBackend] | None:
        def build() -> WorkspaceBackend:
            directory = tmp_path / "doomed"
            directory.mkdir()
            return SessionWorkspace(directory, launcher=launcher)

        return build

    @pytest.fixture
    def attach_backend(
        self, tmp_path: Path, launcher: CommandLauncher
    ) -> Callable[[WorkspaceRef], WorkspaceBackend] | None:
        # A ref names "the session's workspace"; which directory that is, the runner knows.
        def attach(_: WorkspaceRef) -> WorkspaceBackend:
            doomed = tmp_path / "doomed"
            return SessionWorkspace(doomed if self.is_destroyed else tmp_path, launcher=launcher)

        return attach

    is_destroyed = False

    @pytest.fixture
    def destroy_environment(self) -> Callable[[WorkspaceBackend], Awaitable[None]] | None:
        async def destroy(backend: WorkspaceBackend) -> None:
            self.is_destroyed = True
            shutil.rmtree(await backend.working_dir())

        return destroy

    async def test_background_child_does_not_hold_up_completed_command(
        self,
        backend: WorkspaceBackend,
        has_real_posix_shell: bool,
        can_detect_exit_with_inherited_output_pipes: bool,
    ) -> None:
        """The suite's own test then waits half a minute for the child to go on, which it never does here."""
        assert isinstance(backend, SessionWorkspace)
        result = await backend.run(["sh", "-c", "(sleep 1000; echo late) & printf done"], timeout=30)
        assert (result.exit_code, result.stdout) == (0, "done")
