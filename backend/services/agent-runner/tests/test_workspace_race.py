"""A link swapped in while a file tool works: the classic way out, tried by a session's own command."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic_ai.exceptions import ModelRetry
from pydantic_ai.workspaces import LocalWorkspaceBackend

from agent_runner.workspace import SessionWorkspace
from session_attacks import SWAP, Attacked, CheckingTools
from stigmer_isolation import beneath
from stigmer_isolation.launcher import CommandLauncher

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="swaps with renameat2, which is Linux's")

SECRET = "the other session's secret"
OWN = "my own text"
TRIES = 300
CONTROL_TRIES = 3000


class Scene:
    """A session's directory, a secret beside it, and a toolset that checks paths before it uses them."""

    def __init__(self, tmp_path: Path) -> None:
        self.root, self.outside = tmp_path / "session", tmp_path / "outside"
        (self.root / "d").mkdir(parents=True)
        self.outside.mkdir()
        (self.root / "d" / "file").write_text(OWN, encoding="utf-8")
        (self.outside / "file").write_text(SECRET, encoding="utf-8")
        (self.root / "l").symlink_to(self.outside)
        self.tools = CheckingTools()

    async def read_escapes(self, workspace: Attacked) -> bool:
        """Read once through the file tool; whether that showed the secret."""
        with contextlib.suppress(ModelRetry):
            return SECRET in str(await self.tools.read_file("d/file", workspace=workspace))
        return False

    async def write_escapes(self, workspace: Attacked) -> bool:
        """Write once through the file tool; whether that changed what is outside."""
        with contextlib.suppress(ModelRetry):
            await self.tools.write_file("d/file", OWN, workspace=workspace)
        return (self.outside / "file").read_text(encoding="utf-8") != SECRET


@asynccontextmanager
async def attacked(workspace: SessionWorkspace) -> AsyncGenerator[None]:
    """Run the attack as a command of the session meanwhile."""
    attack = asyncio.create_task(workspace.run([sys.executable, "-c", SWAP], timeout=110))
    try:
        yield
        assert not attack.done(), attack.result()
    finally:
        attack.cancel()
        await asyncio.wait({attack})


@pytest.fixture
async def launcher() -> AsyncGenerator[CommandLauncher]:
    async with CommandLauncher() as launcher:
        yield launcher


@pytest.mark.parametrize("method", ["openat2", "walk"])
async def test_file_tools_never_follow_a_link_swapped_in_meanwhile(
    method: str, tmp_path: Path, launcher: CommandLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "walk":
        monkeypatch.setattr(beneath, "has_openat2", lambda: False)
    scene = Scene(tmp_path)
    workspace = SessionWorkspace(scene.root, launcher=launcher)
    async with attacked(workspace):
        reads = sum([await scene.read_escapes(workspace) for _ in range(TRIES)])
        writes = sum([await scene.write_escapes(workspace) for _ in range(TRIES)])
    assert (reads, writes) == (0, 0)


async def test_the_attack_does_work_on_a_workspace_that_opens_by_path(
    tmp_path: Path, launcher: CommandLauncher
) -> None:
    scene = Scene(tmp_path)
    careless = LocalWorkspaceBackend(scene.root)
    async with attacked(SessionWorkspace(scene.root, launcher=launcher)):
        for _ in range(CONTROL_TRIES):
            if await scene.read_escapes(careless):
                return
    pytest.fail(f"no escape in {CONTROL_TRIES} tries: the other test proves nothing")
